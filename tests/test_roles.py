"""Roles on a real HTTP server that answers, refuses, stalls, hangs up and talks nonsense."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest
from servers import Behaviour, Server, command, serving

from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.models import roles

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def teacher(server: Server, ledger: Ledger | None, **params: Any) -> dspy.LM:
    return roles.lm_for("openai/mock", role="teacher", ledger=ledger, **{"api_base": server.url, **params})


def predictor(lm: dspy.LM, signature: str = "question -> answer") -> dspy.Predict:
    predict = dspy.Predict(signature)
    predict.lm = lm
    return predict


def test_sync_and_async_calls_are_one_call(ledger: Ledger) -> None:
    with serving() as server:
        predict = predictor(teacher(server, ledger, temperature=0.5, max_tokens=9))
        first = predict(question="a").answer
        assert asyncio.run(predict.acall(question="a")).answer == first
        assert asyncio.run(predict.acall(question="b")).answer == predict(question="b").answer != first
        assert server.answered.total() == 2
        body = server.requests[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("mock", 0.5, 9)
    assert "Authorization" not in server.headers[0]
    (call, _) = ledger.calls(role="teacher")
    assert (call.input_tokens, call.output_tokens, call.attempts) == (10, 5, 1)
    assert call.latency_s is not None


def test_several_samples_in_an_event_loop(ledger: Ledger) -> None:
    with serving() as server:
        predict = predictor(teacher(server, ledger, temperature=1.0))
        several = asyncio.run(predict.acall(question="a", config={"n": 3}))
        assert len(several.completions.answer) == 3
        assert server.answered.total() == 3
        assert asyncio.run(predict.acall(question="a", config={"n": 3})).completions.answer
        assert server.answered.total() == 3


@pytest.mark.parametrize("trouble", ["429", "500", "503", "drop", "malformed", "no_choices"])
def test_trouble_that_passes_is_waited_out(ledger: Ledger, trouble: str) -> None:
    with serving(Behaviour(script=[trouble, trouble], retry_after="0.05")) as server:
        assert predictor(teacher(server, ledger))(question="a").answer.startswith("answer")
        assert server.asked.total() == 3
    assert [call.attempts for call in ledger.calls()] == [3]


def test_an_answer_that_does_not_come_is_asked_for_again(ledger: Ledger) -> None:
    with serving(Behaviour(script=["timeout"])) as server:
        assert predictor(teacher(server, ledger, timeout=0.3))(question="a").answer.startswith("answer")
    assert [call.attempts for call in ledger.calls()] == [2]


def test_retry_after_is_honoured_and_stalls_nobody_else(ledger: Ledger) -> None:
    with serving(Behaviour(script=["429"] * 4, retry_after="3", latency_s=0.01)) as server:
        predict = predictor(teacher(server, ledger, connections=4))
        finished: list[float] = []
        began = time.monotonic()

        async def run(number: int) -> None:
            await predict.acall(question=str(number))
            finished.append(time.monotonic() - began)

        outcomes = Executor(12).map(run, range(12))
    assert not [outcome.error for outcome in outcomes if outcome.error]
    # Eight are answered before any refused one may come back, although the four refused ones fill all connections.
    assert sum(seconds < 3.0 for seconds in finished) == 8


@pytest.mark.parametrize("trouble", ["429", "503", "drop", "malformed", "timeout"])
def test_trouble_that_stays_fails_the_row_with_a_sentence(ledger: Ledger, trouble: str) -> None:
    with serving(Behaviour(script=[trouble] * 2, retry_after="0.01")) as server:
        predict = predictor(teacher(server, ledger, attempts=2, timeout=0.3))

        async def run(number: int) -> str:
            return (await predict.acall(question=str(number))).answer

        bad, good = Executor(1).map(run, range(2))
        assert isinstance(bad.error, ModelError)
        assert server.url in str(bad.error)
        assert "2 times" in str(bad.error)
        assert str(bad.error).count("\n") == 0
        assert good.error is None
    assert ledger.totals()[0]["failures"] == 1


def test_an_endpoint_that_is_not_there(ledger: Ledger) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    lm = roles.lm_for("openai/mock", role="teacher", ledger=ledger, api_base=address, attempts=2)
    with pytest.raises(
        SetupError, match=rf"{address} .*could not be reached.*--models.api-base when compiling, else --api-base"
    ):
        predictor(lm)(question="a")
    began = time.monotonic()
    with pytest.raises(SetupError, match="could not be reached"):
        roles.check(roles.lm_for("openai/mock", role="teacher", ledger=ledger, api_base=address))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("401", "wants a key .*set OPENAI_API_KEY"),
        ("404", "has no model 'mock' .*correct the teacher's model string or api_base"),
    ],
)
def test_a_refusal_that_the_user_can_mend_stops_the_run(ledger: Ledger, status: str, sentence: str) -> None:
    with serving(Behaviour(script=[status] * 50)) as server:
        lm = teacher(server, ledger)
        with pytest.raises(SetupError, match=sentence):
            Executor(2).map(lambda number: predictor(lm)(question=str(number)), range(20))
        assert server.asked.total() < 10
        with pytest.raises(SetupError, match=sentence):
            roles.check(lm)


@pytest.mark.parametrize(("status", "retry_after"), [("429", "0.05"), ("503", "0.05"), ("429", None)])
def test_a_check_waits_for_a_server_that_is_busy(ledger: Ledger, status: str, retry_after: str | None) -> None:
    with serving(Behaviour(script=[status] * 3, retry_after=retry_after)) as server:
        roles.check(teacher(server, ledger))
        assert server.asked.total() == 4


@pytest.mark.parametrize(("status", "asked"), [("401", 1), ("500", 2), ("429", 5)])
def test_a_check_gives_up(ledger: Ledger, status: str, asked: int) -> None:
    """At once where waiting mends nothing, after two attempts where it hardly does, else after those of a call."""
    with serving(Behaviour(script=[status] * 9, retry_after="0.01")) as server:
        with pytest.raises(SetupError, match=status):
            roles.check(teacher(server, ledger, attempts=3))
        assert server.asked.total() == asked


def test_a_refused_key_is_named_but_not_shown(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with serving(Behaviour(script=["ok", "401"])) as server:
        lm = teacher(server, ledger, api_key_name="MY_KEY")
        predict = predictor(lm)
        predict(question="a")
        assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
        with pytest.raises(SetupError, match="refused the key in MY_KEY") as refused:
            predict(question="b")
        assert "secret" not in str(refused.value)
        predict.save(tmp_path / "program.json")
    assert not [path for path in tmp_path.iterdir() if b"sk-very-secret" in path.read_bytes()]


def test_a_missing_key_is_named() -> None:
    with pytest.raises(SetupError, match="judge model openai/gpt-5 needs a key: set OPENAI_API_KEY"):
        roles.lm_for("openai/gpt-5", role="judge")


@pytest.mark.parametrize("model", ["", "openai/", "embedded/"])
def test_a_model_string_that_names_nothing(model: str) -> None:
    with pytest.raises(SetupError, match="provider/name"):
        roles.lm_for(model, role="student")
    with pytest.raises(SetupError, match="provider/name"):
        roles.embedder_for(model)


def test_an_embedded_model_that_does_not_exist() -> None:
    lm = roles.lm_for("embedded/no-such-model", role="student")
    with pytest.raises(SetupError, match="no-such-model"):
        roles.check(lm)
    with pytest.raises(SetupError, match="no-such-model"):
        predictor(lm)(question="a")


def test_an_embedded_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 64}')
    (tmp_path / "openvino_model.xml").write_text("no model")
    lm = roles.lm_for(f"embedded/{tmp_path}", role="student")
    with pytest.raises(SetupError, match=rf"serves the student model embedded/{tmp_path} could not .*models.student"):
        roles.check(lm)


@pytest.mark.slow
def test_a_check_waits_until_an_embedded_model_is_loaded() -> None:
    from synth_dspy.models.weights import registry

    try:
        registry.resolve("smollm2-135m-instruct")
    except SetupError as error:
        pytest.skip(str(error))
    lm = roles.lm_for("embedded/smollm2-135m-instruct", role="student")
    roles.check(lm)
    with lm.engine.inner.models.lease("smollm2-135m-instruct") as server:
        assert server._loaded.is_set()


def test_a_prompt_that_is_too_long_is_dspys_own_error(ledger: Ledger) -> None:
    with serving(Behaviour(script=["context"])) as server:
        predict = predictor(teacher(server, ledger))
        with pytest.raises(dspy.ContextWindowExceededError, match="maximum context length"):
            predict(question="a")


def test_nonsense_from_the_model_is_a_bad_row(ledger: Ledger) -> None:
    with serving(Behaviour(reply='{"answer": ')) as server, dspy.settings.context(adapter=dspy.JSONAdapter()):
        predict = predictor(teacher(server, ledger), "question -> count: int")
        (outcome,) = Executor(1).map(lambda row: predict(question=row).count, ["a"])
    assert type(outcome.error).__name__ == "AdapterParseError"


def test_a_schema_reaches_the_server(ledger: Ledger) -> None:
    with serving(Behaviour(reply='{"count": 3}')) as server, dspy.settings.context(adapter=dspy.JSONAdapter()):
        predict = predictor(teacher(server, ledger), "question -> count: int")
        assert predict(question="a").count == 3
        assert server.requests[0]["response_format"]["type"] == "json_schema"


def test_the_ambient_address_does_not_move_calls_to_a_slower_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert predictor(roles.lm_for("openai/mock", role="teacher"))(question="a").answer.startswith("answer")
        assert "aiohttp" in server.headers[0]["User-Agent"]


def test_a_check_costs_no_call_where_the_server_lists_its_models(ledger: Ledger) -> None:
    with serving(Behaviour(models=["mock"])) as server:
        roles.check(teacher(server, ledger))
        assert server.asked.total() == 0
    with serving(Behaviour(models=["other"])) as server:
        roles.check(teacher(server, ledger))
        assert server.asked.total() == 1
    assert ledger.totals("station")[0]["station"] == "check"


def test_calls_without_a_ledger_are_made_anew() -> None:
    with serving() as server:
        predict = predictor(teacher(server, None))
        predict(question="a")
        predict(question="a")
        assert server.answered.total() == 2


def test_a_saved_program_calls_the_same_server(tmp_path: Path, ledger: Ledger) -> None:
    with serving() as server:
        predict = predictor(teacher(server, ledger))
        predict.save(tmp_path / "program.json")
        state = json.loads((tmp_path / "program.json").read_text())["lm"]
    assert (state["model"], state["api_base"], state["cache"]) == ("openai/mock", server.url, False)
    assert "engine" not in state


@contextmanager
def server_process(**behaviour: Any) -> Iterator[str]:
    with subprocess.Popen(command(Behaviour(**behaviour)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


RUN = """
import sys, pathlib, dspy
from synth_dspy.models import roles
from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
kind, api_base, path = sys.argv[1:]
with Ledger(pathlib.Path(path)) as ledger:
    predict = dspy.Predict("question -> answer")
    predict.lm = roles.lm_for("openai/mock", role="teacher", ledger=ledger, api_base=api_base)
    async def loop(number):
        return (await predict.acall(question=str(number))).answer
    def thread(number):
        return predict(question=str(number)).answer
    outcomes = Executor(32).map(loop if kind == "loop" else thread, range(300))
    print([outcome.unwrap() for outcome in outcomes])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "share"), [("loop", 0.3), ("thread", 0.6)])
def test_no_answered_call_is_made_again_after_sigkill(tmp_path: Path, kind: str, share: float) -> None:
    log, path = tmp_path / "answered.log", tmp_path / "ledger.sqlite"
    log.touch()
    with server_process(latency_s=0.02, log=str(log)) as api_base:
        run = [sys.executable, "-c", RUN, kind, api_base, str(path)]
        with subprocess.Popen(run, stdout=subprocess.DEVNULL, cwd=ROOT, start_new_session=True) as process:
            while log.read_bytes().count(b"\n") < 300 * share and process.poll() is None:
                time.sleep(0.001)
            os.killpg(process.pid, signal.SIGKILL)
        assert log.read_bytes().count(b"\n") < 300, "the run was over before it was killed"
        resumed = subprocess.run(run, stdout=subprocess.PIPE, cwd=ROOT, check=True, text=True).stdout
        unbroken = subprocess.run([*run[:-1], str(tmp_path / "other.sqlite")], stdout=subprocess.PIPE, cwd=ROOT,
                                  check=True, text=True).stdout  # fmt: skip
    assert resumed == unbroken
    made = Counter(log.read_text().split())
    assert set(made.values()) == {2}  # once by the killed and resumed run, once by the unbroken one
    assert len(made) == 300


@pytest.mark.slow
def test_the_process_that_makes_the_calls_may_die(ledger: Ledger) -> None:
    with serving(Behaviour(latency_s=0.05)) as server:
        predict = predictor(teacher(server, ledger))
        predict(question="first")
        from synth_dspy.models.http import connection as http_connection

        http_connection._connections[ledger.path.absolute()]._process.kill()
        outcomes = Executor(1).map(lambda row: predict(question=row).answer, ["a", "b", "c"])
        assert outcomes[-1].error is None


@pytest.mark.slow
def test_a_hosted_embedder_gives_unit_vectors() -> None:
    with serving() as server:
        embedder = roles.embedder_for("openai/embedder", api_base=server.url)
        vectors = embedder.embed(["a", "bb"])
        assert vectors.shape == (2, 2)
        assert (vectors**2).sum(axis=1) == pytest.approx([1.0, 1.0])
        assert embedder.dimension == 2
        assert embedder.embed([]).shape == (0, 2)
    with pytest.raises(SetupError, match="embedder openai/embedder could not be used"):
        embedder.embed(["a"])


@pytest.fixture(scope="session")
def llama_server() -> Iterator[str]:
    """llama.cpp's own server, in a process of its own, on the model of the default student."""
    pytest.importorskip("xllamacpp")
    from synth_dspy.models.weights import registry

    try:
        weights = registry.resolve("smollm2-135m-instruct")
    except SetupError as error:
        pytest.skip(str(error))
    program = (
        "import sys, time, xllamacpp as x\n"
        "params = x.CommonParams()\n"
        "params.model.path, params.n_ctx, params.n_parallel, params.port = sys.argv[1], 8192, 4, 0\n"
        "params.cpuparams.n_threads = 2\n"
        "server = x.Server(params)\n"
        "print(server.listening_address, flush=True)\n"
        "time.sleep(600)\n"
    )
    run = [sys.executable, "-c", program, str(weights)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("http"):
                    break
            yield f"{line.strip()}/v1"
        finally:
            process.kill()


@pytest.mark.slow
def test_a_real_server_answers_many_calls_at_once(llama_server: str, ledger: Ledger) -> None:
    lm = roles.lm_for(
        "openai/smollm2", role="student", ledger=ledger, api_base=llama_server, temperature=0.0, max_tokens=24
    )
    roles.check(lm)
    with dspy.settings.context(adapter=dspy.JSONAdapter()):
        predict = predictor(lm, "text -> city")

        async def run(city: str) -> str:
            return (await predict.acall(text=f"We flew to {city} yesterday.")).city

        cities = ["Paris", "Rome", "Tokyo", "Lima"]
        outcomes = Executor(4).map(run, cities)
        assert all(isinstance(outcome.unwrap(), str) for outcome in outcomes)  # the schema was kept to
        made = len(ledger.calls())
        assert [o.value for o in Executor(4).map(run, cities)] == [o.value for o in outcomes]
    assert len(ledger.calls()) == made
    assert all(call.input_tokens and call.output_tokens for call in ledger.calls())


@pytest.mark.slow
def test_a_real_server_refuses_a_prompt_that_is_too_long(llama_server: str, ledger: Ledger) -> None:
    lm = roles.lm_for("openai/smollm2", role="student", ledger=ledger, api_base=llama_server, max_tokens=8)
    with pytest.raises(dspy.ContextWindowExceededError):
        predictor(lm)(question="word " * 20_000)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*ReadOnly.* qualifier:UserWarning")  # LiteLLM's, at its first use
@pytest.mark.parametrize("check", [roles.check, roles.check_named])
def test_a_provider_that_does_not_exist(check: Callable[[dspy.LM], None]) -> None:
    with pytest.raises(SetupError, match="'nobody/model' of the role teacher names no known provider"):
        check(roles.lm_for("nobody/model", role="teacher"))
    with pytest.raises(SetupError, match="embedder nobody/model names no known provider"):
        roles.check_named_embedder("nobody/model")


def test_settings_that_a_model_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with pytest.raises(SetupError, match=r"openai/gpt-5 cannot be set up: .*temperature=1.0"):
        roles.lm_for("openai/gpt-5", role="teacher", temperature=0.2)
