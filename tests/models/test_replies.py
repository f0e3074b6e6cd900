"""What a server may send for an answer: anything that is none is a failed attempt, and never stored."""

from __future__ import annotations

import copy
import gzip
import json
import random
import socket
import threading
import time
from typing import Any

import pytest
from dspy import lm15
from echo import MESSAGE, Reply, answering, chat

from synth_dspy.core.errors import ModelError
from synth_dspy.core.ledger import Ledger
from synth_dspy.models import roles
from synth_dspy.models.completion import completion

GOOD = chat()
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
NO_ANSWERS: dict[str, Reply] = {
    "text instead of a message": Reply(json.dumps({"choices": [{"text": "Oregon"}]})),
    "no message": Reply(json.dumps({"choices": [{"index": 0, "finish_reason": "stop"}]})),
    "a delta": Reply(json.dumps({"choices": [{"delta": MESSAGE}]})),
    "a message that is a text": Reply(chat("Oregon")),
    "no content": Reply(chat({"role": "assistant"})),
    "content that is null": Reply(chat({"content": None})),
    "content that is a number": Reply(chat({"content": 5})),
    "content that is an object": Reply(chat({"content": {"text": "Oregon"}})),
    "content of wrong parts": Reply(chat({"content": [{"type": "text", "text": 5}]})),
    "calls that are none": Reply(chat({"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]})),
    "calls that are a text": Reply(chat({"content": "Oregon", "tool_calls": "f()"})),
    "a refusal that is a number": Reply(chat({"content": None, "refusal": 5})),
    "a reason that is a number": Reply(chat(finish=5)),
    "no choices": Reply(json.dumps({"object": "chat.completion"})),
    "an empty list of choices": Reply(json.dumps({"choices": []})),
    "two choices": Reply(json.dumps({"choices": json.loads(GOOD)["choices"] * 2})),
    "choices that are null": Reply(json.dumps({"choices": None})),
    "an error with 200": Reply(json.dumps({"error": {"message": "overloaded"}})),
    "an error beside an answer": Reply(chat(error={"message": "overloaded"})),
    "a list": Reply(f"[{GOOD}]"),
    "a number": Reply("NaN"),
    "a page": Reply("<html><body>Sign in to the hotel's network</body></html>"),
    "nothing": Reply(""),
    "half of it": Reply(GOOD[: len(GOOD) // 2]),
    "a stream": Reply(f"data: {GOOD}\n\ndata: [DONE]\n\n"),
    "a length that is too long": Reply(GOOD, length=len(GOOD) + 50, headers={"Connection": "close"}),
    "a length that is too short": Reply(GOOD, length=len(GOOD) - 5, headers={"Connection": "close"}),
    "compressed, and not": Reply(GOOD, headers={"Content-Encoding": "gzip"}),
    "nested deeply": Reply('{"choices":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "a number of 5,000 digits": Reply(GOOD[:-1] + ', "n": ' + "9" * 5000 + "}"),
    "too long": Reply(chat({"content": "x" * 300_000})),
    "too long, and compressed": Reply(
        gzip.compress(chat({"content": "x" * 50_000_000}).encode()), headers={"Content-Encoding": "gzip"}
    ),
    "too long, and an error": Reply("x" * 300_000, 500),
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One for all, and with it one HTTP process: each test asks another question."""
    with Ledger(tmp_path_factory.mktemp("replies") / "ledger.sqlite") as ledger:
        yield ledger


def teacher(url: str, ledger: Ledger, **more: Any) -> Any:
    return roles.lm_for("openai/mock", role="teacher", ledger=ledger, api_base=url, max_reply_mb=0.2, **more)


@pytest.mark.parametrize("form", NO_ANSWERS)
def test_what_is_no_answer_is_asked_for_again(ledger: Ledger, form: str) -> None:
    replies = iter([NO_ANSWERS[form]])
    with answering(lambda _: next(replies, Reply(GOOD))) as server:
        assert teacher(server.url, ledger)(f"Again, {form}?") == ["Oregon"]
    assert ledger.calls()[-1].attempts == 2


@pytest.mark.parametrize("form", ["text instead of a message", "a page", "too long", "content that is null"])
def test_what_stays_no_answer_is_an_error_in_a_sentence(ledger: Ledger, form: str) -> None:
    with answering(lambda _: NO_ANSWERS[form]) as server:
        answered = len(ledger.calls())
        with pytest.raises(ModelError, match=r"failed a call to openai/mock 2 times, at last with: the reply is "):
            teacher(server.url, ledger, attempts=2)(f"At last, {form}?")
        assert len(ledger.calls()) == answered
        assert len(server.headers) == 2


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (chat({"content": ""}), ""),
        (chat({"content": None}, finish="length"), ""),  # all its tokens went into thinking
        (chat({"content": None}, finish="content_filter"), ""),
        (chat({"content": None, "refusal": "I will not."}), None),
        (chat({"content": [{"type": "thinking"}, {"type": "text", "text": "Oregon"}]}), "Oregon"),
        (chat({"content": "a half \ud83d, a whole \ud83d\ude00"}), "a half \ufffd, a whole \U0001f600"),
        (chat({"content": "nul \0 and escape \x1b"}), "nul \0 and escape \x1b"),
        (GOOD[:-1] + ', "usage": {"prompt_tokens": NaN, "completion_tokens": 5}}', "Oregon"),
        (GOOD[:-1] + ', "created": Infinity}', "Oregon"),
        (GOOD[:-3] + ', "logprobs": {"content": [{"token": 5, "logprob": "x"}]}}]}', None),
    ],
)
def test_an_unusual_answer_is_an_answer(ledger: Ledger, body: str, answer: str | None) -> None:
    with answering(lambda _: Reply(body)) as server:
        lm = teacher(server.url, ledger, attempts=1)
        first = lm(f"Unusual, {body}?")
        assert lm(f"Unusual, {body}?") == first
        assert len(server.headers) == 1
    if answer is not None:
        assert first == [answer]
    str(first[0]).encode()  # a file can hold it


def test_a_call_of_a_tool_is_an_answer() -> None:
    text = chat({"content": None, "tool_calls": [CALL]}, finish="tool_calls")
    assert completion(text) == (text, {})


def test_a_reply_that_drips_is_given_up(ledger: Ledger) -> None:
    """However slowly its bytes come, an attempt ends with its time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                for _ in range(100):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with pytest.raises(ModelError, match=r"no answer within 0\.3 s"):
            teacher(url, ledger, attempts=1, timeout=0.3)("Well?")


def test_whatever_is_taken_for_an_answer_can_be_read_back() -> None:
    """A few thousand changes of a whole reply: each is refused, or DSPy's own reader takes it."""
    whole = json.loads(
        chat(
            {"role": "assistant", "content": "Oregon", "refusal": None, "tool_calls": [CALL], "reasoning": "Hm"},
            model="mock", id="1", created=0,
            usage={"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}},
        )
    )  # fmt: skip
    whole["choices"][0]["logprobs"] = {
        "content": [{"token": "O", "logprob": -0.1, "bytes": [79], "top_logprobs": [{"token": "O", "logprob": -0.1}]}]
    }
    values = [None, True, 0, -1, 1.5, float("nan"), "", "x", [], [None], {}, {"a": 1}, [[]], [{}], "\ud800", 1 << 70]
    rng = random.Random(0)
    taken = 0
    for _ in range(3000):
        body = copy.deepcopy(whole)
        for _ in range(rng.randint(1, 2)):
            place: Any = body
            while True:
                key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
                if not (isinstance(place[key], dict | list) and place[key]) or rng.random() < 0.25:
                    break
                place = place[key]
            place[key] = rng.choice(values)
        try:
            text, counts = completion(json.dumps(body))
        except ValueError:
            continue
        taken += 1
        assert all(isinstance(count, int) for count in counts.values())
        response = lm15.response_from_openai_chat(json.loads(text), model="mock")
        json.dumps(response.message.parts[0].__class__.__name__)
        text.encode()
    assert 500 < taken < 2900
