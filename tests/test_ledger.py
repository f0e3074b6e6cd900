"""The ledger: committed before it is seen, asked once, booked to whom it belongs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15

from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Verdict
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall, Unit
from synth_dspy.models.ledger_lm import LedgerEngine, LedgerLM


class Model:
    """An engine that counts its calls and answers each with a number."""

    supports_response_schema = True
    supported_params = frozenset({"response_format"})

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.requests: list[lm15.Request] = []
        self.seconds = seconds
        self.error = error

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.requests.append(request)
        number = len(self.requests)
        time.sleep(self.seconds)
        if self.error:
            raise self.error
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant([lm15.TextPart(f"[[ ## answer ## ]]\n{number}\n\n[[ ## completed ## ]]")]),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=10, output_tokens=2),
            provider_data={"cpu_seconds": 0.25, "latency_seconds": 0.5},
        )


class AsyncModel(Model):
    async def complete(self, request: lm15.Request) -> lm15.Response:  # type: ignore[override]
        self.requests.append(request)
        number = len(self.requests)
        await asyncio.sleep(self.seconds)
        return lm15.Response(
            id=None,
            model=request.model,
            message=lm15.Message.assistant([lm15.TextPart(f"[[ ## answer ## ]]\n{number}\n\n[[ ## completed ## ]]")]),
            finish_reason="stop",
            usage=lm15.Usage(input_tokens=10, output_tokens=2),
        )


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


def lm_on(model: Model, ledger: Ledger | None, *, role: str = "student", **params: Any) -> LedgerLM:
    asynchronous = model if isinstance(model, AsyncModel) else None
    engine = LedgerEngine(model, asynchronous=asynchronous, ledger=ledger, role=role)
    return LedgerLM("embedded/model", engine=engine, **params)


def predictor(lm: LedgerLM) -> dspy.Predict:
    predict = dspy.Predict("question -> answer")
    predict.lm = lm
    return predict


def test_a_call_is_made_once_and_answered_alike_ever_after(tmp_path: Path) -> None:
    model, answers = Model(), []
    for _ in range(2):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            request = lm15.Request("embedded/model", (lm15.Message.user("Hello"),))
            answers += [lm_on(model, ledger)(request), lm_on(model, ledger)(request)]
    assert len(model.requests) == 1
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].provider_data == {"cpu_seconds": 0.25, "latency_seconds": 0.5}


@pytest.mark.parametrize(
    "changed",
    [
        {"messages": (lm15.Message.user("Hello!"),)},
        {"system": "Be brief."},
        {"config": lm15.Config(temperature=0.5)},
        {"config": lm15.Config(max_tokens=7)},
        {"config": lm15.Config(seed=1)},
        {"config": lm15.Config(stop=("x",))},
        {"config": lm15.Config(response_format={"type": "json_object"})},
    ],
)
def test_whatever_determines_the_answer_is_in_the_key(ledger: Ledger, changed: dict[str, Any]) -> None:
    model = Model()
    lm = lm_on(model, ledger)
    plain: dict[str, Any] = {"model": "embedded/model", "messages": (lm15.Message.user("Hello"),)}
    lm(lm15.Request(**plain))
    lm(lm15.Request(**plain | changed))
    assert len(model.requests) == 2


def test_samples_and_rollouts_are_calls_of_their_own(ledger: Ledger) -> None:
    model = Model()
    predict = predictor(lm_on(model, ledger, temperature=1.0))
    for _ in range(2):
        several = predict(question="a", config={"n": 3})
        assert several.completions.answer == ["1", "2", "3"]
    other = predict(question="a", config={"rollout_id": 7})
    again = predict(question="a", config={"rollout_id": 7})
    assert other.answer == again.answer == "4"


def test_without_chance_another_rollout_is_the_same_call(ledger: Ledger) -> None:
    model = Model()
    lm = lm_on(model, ledger, temperature=0.0)
    first = predictor(lm)(question="a")
    with pytest.warns(UserWarning, match="rollout_id has no effect"):
        second = predictor(lm.copy(rollout_id=2))(question="a")
    assert first.answer == second.answer
    assert len(model.requests) == 1


def test_seeded_samples_do_not_depend_on_what_ran_before(tmp_path: Path) -> None:
    seeds = []
    for run in ("a", "b"):
        model = Model()
        with Ledger(tmp_path / f"{run}.sqlite") as ledger:
            engine = LedgerEngine(model, ledger=ledger, role="teacher", seeded=True)
            predict = predictor(LedgerLM("embedded/model", engine=engine, temperature=1.0))
            if run == "b":
                predict(question="something before")
            predict(question="a")
            predict(question="a", config={"rollout_id": 1})
        seeds.append([request.config.seed for request in model.requests][-2:])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 2


def test_the_same_call_at_the_same_time_is_made_once_in_threads(ledger: Ledger) -> None:
    model = Model(seconds=0.1)
    predict = predictor(lm_on(model, ledger))
    outcomes = Executor(8).map(lambda _: predict(question="a").answer, range(8))
    assert [outcome.value for outcome in outcomes] == ["1"] * 8
    assert len(model.requests) == 1


def test_the_same_call_at_the_same_time_is_made_once_in_an_event_loop(ledger: Ledger) -> None:
    model = AsyncModel(seconds=0.1)
    predict = predictor(lm_on(model, ledger))

    async def run(_: int) -> str:
        return (await predict.acall(question="a")).answer

    assert [outcome.value for outcome in Executor(8).map(run, range(8))] == ["1"] * 8
    assert len(model.requests) == 1


def test_whoever_waits_for_a_cancelled_call_makes_it(ledger: Ledger) -> None:
    model = AsyncModel(seconds=0.1)
    predict = predictor(lm_on(model, ledger))

    async def main() -> str:
        first = asyncio.create_task(predict.acall(question="a"))
        await asyncio.sleep(0.02)
        impatient = asyncio.create_task(predict.acall(question="a"))
        second = asyncio.create_task(predict.acall(question="a"))
        await asyncio.sleep(0.02)
        impatient.cancel()
        await asyncio.sleep(0)
        first.cancel()
        return (await second).answer

    assert asyncio.run(main()) == "2"


def test_a_failed_call_is_counted_and_made_again(ledger: Ledger) -> None:
    model = Model(error=lm15.ServerError("out of memory"))
    predict = predictor(lm_on(model, ledger))
    with ledger.unit(station="synthesis"), pytest.raises(Exception, match="out of memory"):
        predict(question="a")
    assert ledger.totals("station") == [
        {"station": "synthesis", "calls": 0, "attempts": 0, "input_tokens": 0, "output_tokens": 0, "latency_s": 0.0,
         "cpu_s": 0.0, "cost_usd": None, "failures": 1}
    ]  # fmt: skip
    model.error = None
    assert predict(question="a").answer == "2"
    assert ledger.totals()[0]["failures"] == 1


def test_a_prompt_that_is_too_long_is_refused_again_without_a_call(tmp_path: Path) -> None:
    model = Model(error=lm15.ContextLengthError("9,000 tokens do not fit"))
    for _ in range(2):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            for _ in range(2):
                with pytest.raises(dspy.ContextWindowExceededError, match="do not fit"):
                    predictor(lm_on(model, ledger))(question="a")
    assert len(model.requests) == 1


def test_totals_are_booked_to_role_station_source_and_arm(ledger: Ledger) -> None:
    student, teacher = predictor(lm_on(Model(), ledger)), predictor(lm_on(Model(), ledger, role="teacher"))
    with ledger.unit(station="synthesis"):
        for source in ("one", "two"):
            with ledger.unit(source=source):
                teacher(question=source)
    with ledger.unit(station="evaluation", arm="rag"):
        student(question="a")
    by_role = {row["role"]: row for row in ledger.totals("role")}
    assert (by_role["teacher"]["calls"], by_role["teacher"]["input_tokens"]) == (2, 20)
    assert (by_role["student"]["output_tokens"], by_role["student"]["cpu_s"]) == (2, 0.25)
    units = {call.unit for call in ledger.calls()}
    assert units == {Unit("synthesis", "one"), Unit("synthesis", "two"), Unit("evaluation", "", "rag")}
    assert [call.latency_s for call in ledger.calls(station="synthesis", source="two")] == [0.5]
    with pytest.raises(ValueError, match="colour"):
        ledger.totals("colour")


def test_units_and_measures_reach_threads_that_dspy_starts(ledger: Ledger) -> None:
    predict = predictor(lm_on(Model(), ledger))
    devset = [dspy.Example(question=str(number), answer="x").with_inputs("question") for number in range(4)]
    with ledger.unit(station="arms", arm="random_search"), ledger.measure() as usage:
        dspy.Evaluate(devset=devset, metric=lambda *_: 1.0, num_threads=2, display_progress=False)(predict)
    assert usage.calls == 4
    assert [(row["arm"], row["calls"]) for row in ledger.totals("arm")] == [("random_search", 4)]


def test_a_resumed_run_measures_the_original_figures(tmp_path: Path) -> None:
    usages = []
    for _ in range(2):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            predict = predictor(lm_on(Model(), ledger))
            with ledger.measure() as outer, ledger.measure() as inner:
                predict(question="a")
                predict(question="b")
            assert inner == outer
            usages.append(inner)
    first, resumed = usages
    assert (first.from_ledger, resumed.from_ledger) == (0, 2)
    assert (first.calls, first.input_tokens, first.output_tokens, first.cpu_s) == (2, 20, 4, 0.5)
    assert first.latency_s == resumed.latency_s == 1.0
    assert first.cost_usd is None


def test_rows_measure_their_own_calls(ledger: Ledger) -> None:
    predict = predictor(lm_on(AsyncModel(seconds=0.01), ledger))

    async def run(number: int) -> int:
        with ledger.measure() as usage:
            for part in range(number):
                await predict.acall(question=f"{number} {part}")
        return usage.calls

    assert [outcome.value for outcome in Executor(4).map(run, range(5))] == [0, 1, 2, 3, 4]


def test_verdicts_are_kept_once(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.record_verdict("c1", "grounded", Verdict(True, 0.75, "in the chunk"))
        ledger.record_verdict("c1", "duplicate", Verdict(False, 0.0, "as c0"))
    assert ledger.verdicts() == {
        ("c1", "duplicate"): Verdict(False, 0.0, "as c0"),
        ("c1", "grounded"): Verdict(True, 0.75, "in the chunk"),
    }


def test_a_saved_program_holds_no_ledger(ledger: Ledger, tmp_path: Path) -> None:
    predict = predictor(lm_on(Model(), ledger, temperature=0.5))
    predict.save(tmp_path / "program.json")
    text = (tmp_path / "program.json").read_text()
    assert "ledger" not in text.lower()
    assert json.loads(text)["lm"]["temperature"] == 0.5
    loaded = dspy.Predict("question -> answer")
    loaded.load(tmp_path / "program.json")
    assert loaded.lm.model == "embedded/model"


def test_copies_of_a_program_share_the_ledger(ledger: Ledger) -> None:
    model = Model()
    predict = predictor(lm_on(model, ledger))
    predict(question="a")
    assert predict.deepcopy()(question="a").answer == "1"
    assert predict.lm.copy(temperature=None).engine.ledger is ledger
    assert len(model.requests) == 1


def test_the_engine_shows_what_the_inner_one_supports(ledger: Ledger) -> None:
    lm = lm_on(Model(), ledger)
    assert lm.supports_response_schema
    assert "response_format" in lm.supported_params
    assert not lm.supports_function_calling


def test_one_process_writes_a_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    program = (
        "import sys, time, pathlib; from synth_dspy.core.ledger import Ledger;"
        "ledger = Ledger(pathlib.Path(sys.argv[1])); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(SetupError, match=rf"already open in process {other.pid}"):
            Ledger(path)
        with Ledger(path, read_only=True) as reader:
            assert reader.totals()[0]["calls"] == 0
        other.send_signal(signal.SIGKILL)
    Ledger(path).close()


def test_what_was_answered_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    program = (
        "import sys, pathlib; from synth_dspy.core.ledger import ModelCall, Ledger\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "for number in range(10**9):\n"
        "    ledger.record(ModelCall(str(number), '{}', 'm', 'teacher'))\n"
        "    sys.stdout.write(f'{number}\\n'); sys.stdout.flush()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        for _ in range(200):
            other.stdout.readline()
        os.kill(other.pid, signal.SIGKILL)
        seen = 200 + len([line for line in other.stdout.read().split("\n") if line])
    with Ledger(path) as ledger:
        assert ledger.totals()[0]["calls"] >= seen - 1
        assert all(ledger.lookup(str(number)) for number in range(seen - 1))


def test_the_first_answer_stays(ledger: Ledger) -> None:
    ledger.record(ModelCall("k", '{"a": 1}', "m", "judge"))
    ledger.record(ModelCall("k", '{"a": 2}', "m", "judge"))
    answer_found = ledger.lookup("k")
    assert answer_found is not None
    assert answer_found.response == '{"a": 1}'
    assert ledger.lookup("other") is None


def test_a_folder_that_is_not_there_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Could not open the ledger"):
        Ledger(tmp_path / "nowhere" / "ledger.sqlite")


def test_a_sync_call_inside_a_loop_does_not_wait_for_a_task_of_that_loop(ledger: Ledger) -> None:
    slow = AsyncModel(seconds=0.2)
    predict = predictor(lm_on(slow, ledger))
    fast = predictor(LedgerLM("embedded/model", engine=LedgerEngine(Model(), ledger=ledger, role="student")))

    async def main() -> tuple[str, str]:
        task = asyncio.create_task(predict.acall(question="a"))
        await asyncio.sleep(0.02)
        inside = fast(question="a").answer  # the same key, as another engine answers it
        return inside, (await task).answer

    finished = threading.Thread(target=lambda: answers.append(asyncio.run(main())), daemon=True)
    answers: list[tuple[str, str]] = []
    finished.start()
    finished.join(5)
    assert answers
