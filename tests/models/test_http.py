"""The HTTP process against endpoints whose answers are stranger than those of `servers`."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLCertVerificationError
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from dspy import lm15

from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall
from synth_dspy.models import roles
from synth_dspy.models.http import engine as http
from synth_dspy.models.http.connection import connection
from synth_dspy.models.http.process import HttpProcess, completion

CHOICES = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "yes"}}]


@contextmanager
def endpoint(*bodies: str) -> Iterator[str]:
    """An endpoint that gives these answers in turn, and the last one ever after."""
    left = list(bodies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = (left.pop(0) if len(left) > 1 else left[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def ask(engine: http.HttpEngine, ledger: Ledger | None = None) -> ModelCall:
    request = lm15.Request("openai/mock", (lm15.Message.user("Well?"),))
    return engine.submit(request, ModelCall("key", "", "openai/mock", "teacher"), ledger).result(timeout=10)


def test_an_answer_nested_too_deeply_fails_the_call_and_not_the_process(ledger: Ledger) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    with endpoint(deep, deep, json.dumps({"choices": CHOICES})) as url:
        with pytest.raises(ModelError, match=r"1 times, at last with: the reply is nested too deeply"):
            ask(http.HttpEngine(url, attempts=1), ledger)
        assert ask(http.HttpEngine(url), ledger).attempts == 2


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "10", "completion_tokens": 5},
        {"prompt_tokens": 1 << 70, "completion_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": "3"}},
        {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": 3},
        [10, 5],
    ],
)
@pytest.mark.parametrize("prices", [None, [0.1, 0.2]])
def test_a_usage_that_cannot_be_read_costs_no_answer(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, usage: Any, prices: Any
) -> None:
    monkeypatch.setattr(http.HttpEngine, "price_of", lambda *_: prices)
    with endpoint(json.dumps({"choices": CHOICES, "usage": usage})) as url:
        lm = roles.lm_for("openai/mock", role="teacher", ledger=ledger, api_base=url, attempts=1)
        assert lm("Well?") == lm("Well?") == ["yes"]
    (call,) = ledger.calls()
    assert (call.input_tokens, call.output_tokens, call.cost_usd) == (None, None, None)


def test_a_usage_that_can_be_read_is_kept_with_the_text_as_it_came() -> None:
    details = {"cached_tokens": 3, "audio_tokens": None}
    usage = {"prompt_tokens": 10, "completion_tokens": None, "prompt_tokens_details": details, "cost": 0.5}
    text = json.dumps({"choices": CHOICES, "usage": usage}, indent=3)
    assert completion(text) == (text, {"prompt_tokens": 10})


def test_nothing_is_sent_where_its_answer_could_not_be_kept(ledger: Ledger) -> None:
    ledger.path.unlink()  # before the process that commits the answers opens it
    ledger.path.mkdir()
    with pytest.raises(SetupError, match=r"Could not write the ledger .*: unable to open database file; free some"):
        ask(http.HttpEngine("http://127.0.0.1:9/v1"), ledger)  # where nobody listens, which it does not find out
    with pytest.raises(SetupError, match="unable to open database file"):
        ledger.record(ModelCall("key", "{}", "openai/mock", "teacher"))


def test_a_malformed_address_is_not_tried_again(ledger: Ledger) -> None:
    with pytest.raises(SetupError, match=r"could not be reached \(.*is not an address\)"):
        ask(http.HttpEngine("http://:1:2/v1"), ledger)


def test_a_certificate_that_is_not_accepted_is_not_tried_again() -> None:
    refused = aiohttp.ClientConnectorCertificateError(
        SimpleNamespace(host="h", port=443, is_ssl=True), SSLCertVerificationError("self-signed certificate")
    )

    def post(*_: Any, **__: Any) -> None:
        raise refused

    async def attempt() -> Any:
        process = HttpProcess(None, None, None)  # type: ignore[arg-type]
        process.session = SimpleNamespace(post=post)
        frame = {"url": "https://h", "timeout": 1.0, "body": "", "headers": {}}
        return await process.attempt(frame, ModelCall("key", "", "m", "teacher"))

    outcome = asyncio.run(attempt())
    assert (outcome["kind"], outcome["retry"]) == ("unreachable", False)
    assert "self-signed" in outcome["message"]


def test_each_number_of_connections_holds_for_those_who_set_it() -> None:
    """Of two roles at one endpoint, the second is not held to the first one's connections."""
    most = {"student": 0, "teacher": 0}

    async def run() -> None:
        process = HttpProcess(None, None, None)  # type: ignore[arg-type]
        under_way = dict.fromkeys(most, 0)

        async def attempt(frame: dict[str, Any], call: ModelCall) -> ModelCall:
            under_way[call.role] += 1
            most[call.role] = max(most[call.role], under_way[call.role])
            await asyncio.sleep(0.01)
            under_way[call.role] -= 1
            return call

        process.attempt = attempt  # type: ignore[method-assign, assignment]
        process.reply = lambda frame: None  # type: ignore[method-assign]
        frames = [
            {
                "id": 0,
                "url": "u",
                "attempts": 1,
                "connections": connections,
                "call": ModelCall("", "", "", role).to_dict(),
            }
            for role, connections in (("student", 2), ("teacher", 5))
            for _ in range(8)
        ]
        await asyncio.gather(*map(process.call, frames))

    asyncio.run(run())
    assert most == {"student": 2, "teacher": 5}


def test_what_the_process_said_at_its_end_is_told() -> None:
    """And however much it said, it was not stopped by a pipe that nobody reads."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = http.HttpEngine(f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        request = lm15.Request("openai/mock", (lm15.Message.user("Well?"),))
        pending = engine.submit(request, ModelCall("key", "", "openai/mock", "teacher"), None)
        sent = connection(None)
        sent._stderr.write(b"x" * 200_000 + b"\nout of memory\n")
        sent._stderr.flush()
        sent._process.kill()
        with pytest.raises(ModelError, match="ended: out of memory"):
            pending.result(timeout=10)
