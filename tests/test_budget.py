"""Budgets: what is admitted, when a run stops, how it goes on; the plan, and what was spent by role."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from applied import workspace_with_program
from servers import Behaviour, Server, serving

from synth_dspy import compile_task
from synth_dspy.cli import compile as cli
from synth_dspy.core.budget import Budget
from synth_dspy.core.errors import BudgetReached, SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall, Unit
from synth_dspy.models.prices import given_price, list_price
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.plan import FREE, Rate, Step, describe, measured_rate

KIND = ("student", "openai/gpt-4o-mini")
CALL = ModelCall("key", "{}", KIND[1], KIND[0], cost_usd=1.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(Behaviour(prompt_tokens=2000, completion_tokens=500)) as server:  # $0.0006 a call
        yield server


def spend(budget: Budget, call: ModelCall = CALL, seconds: float = 0.0) -> bool:
    try:
        with budget.spending(KIND) as count:
            time.sleep(seconds)
            count(call)
    except BudgetReached:
        return False
    return True


def test_once_its_cost_is_known_no_call_is_admitted_that_does_not_fit() -> None:
    budget = Budget(max_usd=10.5)
    assert spend(budget)
    with ThreadPoolExecutor(8) as threads:
        admitted = list(threads.map(lambda _: spend(budget, seconds=0.01), range(40)))
    assert sum(admitted) == 9
    assert budget.spent_usd == 10.0
    with pytest.raises(BudgetReached, match=r"budget of \$10\.5 \(--max-usd\) is used up: \$10\.0000 spent in 10 "):
        budget.check_refused()


def test_calls_of_unknown_cost_overspend_by_at_most_those_in_flight() -> None:
    budget = Budget(max_usd=3.0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: spend(budget, seconds=0.02), range(40)))
    assert 3.0 <= budget.spent_usd <= 3.0 + 8


def test_time_is_a_limit_too() -> None:
    budget = Budget(max_minutes=1e-6)
    time.sleep(0.001)
    assert not spend(budget)
    with pytest.raises(BudgetReached, match="--max-minutes"):
        budget.check()


def test_earlier_starts_of_a_run_count(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record(CALL)
    with Ledger(tmp_path / "ledger.sqlite", budget=Budget(max_usd=1.5), resume_command="again") as ledger:
        assert ledger.budget.spent_usd == 1.0
        with pytest.raises(BudgetReached, match="Go on by `again` with a higher limit"), ledger.budget.spending(KIND):
            raise AssertionError("a call was admitted that does not fit")


def test_prices_are_of_the_list_or_set() -> None:
    assert list_price("openai/gpt-4o-mini") == pytest.approx((0.15e-6, 0.6e-6))
    assert list_price("bedrock/amazon.nova-lite-v1:0") is not None
    assert list_price("openai/our-own-model") is None
    assert given_price([1, 2], "judge") == pytest.approx((1e-6, 2e-6))
    for wrong in ("cheap", [1], [1, -2], [True, "x"]):
        with pytest.raises(SetupError, match=r"models\.options\.judge\.price is .*: it should be two numbers"):
            given_price(wrong, "judge")  # type: ignore[arg-type]


def test_a_plan_has_the_rates_of_a_former_run(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for number in range(4):
            unit = Unit("evaluation", f"item {number // 2}", "sft")
            ledger.record(
                ModelCall(str(number), "{}", KIND[1], "student", unit, input_tokens=100, output_tokens=50, latency_s=2)
            )
    rate = measured_rate(tmp_path, station="evaluation", arm="sft")
    assert rate == Rate(per_item=2, input_tokens=100, output_tokens=50, seconds=2, measured=tmp_path.name)
    assert measured_rate(tmp_path, station="evaluation", arm="rag") is None
    text = describe([Step("evaluation, student", 30, rate, (1e-3, 2e-3), concurrency=4)])
    assert "60 calls" in text
    assert "$12.00" in text
    assert "30 s" in text
    assert tmp_path.name in text
    assert "no earlier run has measured any" in describe([Step("apply", 10, Rate())])


def test_the_calls_of_an_earlier_synthesis_are_not_taken_for_those_of_one_candidate(tmp_path: Path) -> None:
    """They are of no item; 24 of a small run once became 24 for each of 24 candidates."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for number in range(24):
            call = ModelCall(str(number), "{}", KIND[1], "teacher", Unit("synthesis", "", ""), input_tokens=100)
            ledger.record(call)
    rate = measured_rate(tmp_path, station="synthesis", role="teacher")
    assert rate is not None
    assert (rate.per_item, rate.input_tokens) == (1.0, 100)


def test_a_plan_of_models_on_this_machine_says_nothing_of_prices() -> None:
    embedded, unpriced = Step("apply", 10, Rate(), FREE), Step("judge", 10, Rate())
    assert not re.search(r"price|\$", describe([embedded]))
    assert "no price in the list" in describe([embedded, unpriced])
    assert re.search(r"\$0\.01 \(", describe([embedded, Step("judge", 10, Rate(), (1e-6, 1e-6))]))


ROWS_TASK = """
from pathlib import Path
from typing import Literal

import dspy
from synth_dspy import Rows, Task, task


class Triage(dspy.Signature):
    '''Say which problem the message is about.'''

    message: str = dspy.InputField()
    kind: Literal["pest", "water"] = dspy.OutputField()


@task
def garden(rows: Path = Path("rows.csv")) -> Task:
    '''Garden messages.'''
    return Task(program=dspy.Predict(Triage), source=Rows(rows))
"""


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with a task whose answers are labels, and nothing in its runs."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "__init__.py").touch()
    (tmp_path / "programs" / "garden.py").write_text(ROWS_TASK)
    rows = [f"word{number} {kind},{kind}" for number in range(30) for kind in ("pest", "water")]
    (tmp_path / "rows.csv").write_text("\n".join(["message,kind", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """What a compile of the task says before its first model is opened."""
    with pytest.raises(BudgetReached):
        cli.main(["garden", "--max-minutes", "1e-6", *flags])
    shown = capsys.readouterr().err
    return shown[shown.index("plan: ") :]


def test_a_plan_expects_of_trainings_what_they_took_and_not_their_limit(
    garden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = ["--evaluation.arms", "sft,dpo", "--splits.folds", "1"]
    quick = plan_of(capsys, "--quick", *arms)
    assert re.search(r"training: about [1-4] min, at most 20 min\n", quick)  # by the model's size
    assert re.search(r"tokens, [1-5] min \(", quick)
    former = garden / "runs" / "garden" / "20270101-000000-aaaa"
    former.mkdir()
    Ledger(former / "ledger.sqlite").close()
    student = "embedded/smollm2-135m-instruct"
    (former / "config.toml").write_text(f'quick = true\n[models]\nstudent = "{student}"\n')
    trained = {"sft": (45.0, 20.0), "dpo": (0.2, 15.0)}  # dpo was resumed
    measured = {name: {"compile_seconds": took, "training": {"seconds": s}} for name, (took, s) in trained.items()}
    (former / "measurements.json").write_text(json.dumps({"arms": {**measured, "zero_shot": {"training": None}}}))
    assert "training: about 60 s, at most 20 min\n" in plan_of(capsys, "--quick", *arms)
    assert "training: about 60 s" not in plan_of(capsys, *arms)  # more rows than the former run had


def test_a_plan_expects_of_synthesis_and_prompts_what_a_former_run_called(
    garden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = garden / "programs" / "garden.py"
    writer = "\n\ndef write(resources):\n    raise AssertionError('only a plan is wanted')\n\n\n@task"
    task.write_text(
        task.read_text().replace("\n\n@task", writer).replace("Rows(rows))", "Rows(rows), synthesizer=write)")
    )
    arms = ["--evaluation.arms", "bootstrap,random_search", "--splits.folds", "1"]
    assumed = plan_of(capsys, "--synthesis.candidates", "10", *arms)
    assert "  synthesis, teacher: 10 calls" in assumed  # every split has labels
    assert "choice of prompts, teacher" not in assumed
    assert "synthesis" not in plan_of(capsys, "--synthesis.candidates", "10", "--synthesis.train-on", "gold", *arms)
    former = garden / "runs" / "garden" / "20270101-000000-aaaa"
    (former / "datasets").mkdir(parents=True)
    (former / "datasets" / "candidates-train.jsonl").write_text("{}\n" * 8)
    made = (
        [("synthesis", "teacher", "")] * 12
        + [("arms", "teacher", "bootstrap")] * 3
        + [("arms", "student", "mipro")] * 5
    )
    with Ledger(former / "ledger.sqlite") as ledger:
        for number, (station, role, arm) in enumerate(made):
            ledger.record(ModelCall(str(number), "{}", KIND[1], role, Unit(station, "", arm)))
    plan = plan_of(capsys, "--synthesis.candidates", "10", *arms)
    for line in (
        "synthesis, teacher: 15 calls",  # 12 for 8
        "choice of prompts, student: 5 calls",  # 5 for two arms, and two are planned
        "choice of prompts, teacher: 3 calls",
    ):
        assert f"\n  {line}, " in plan


def test_where_labels_are_compared_by_equality_no_judge_is_planned(
    garden: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    plan = plan_of(capsys, "--models.judge", "openai/gpt-4o", "--evaluation.arms", "bootstrap")
    assert "evaluation, judge" not in plan
    assert "judge: not called, since answers are scored by equality here (openai/gpt-4o costs nothing)" in plan
    assert "$" not in plan


def test_a_plan_has_a_line_for_the_row_under_dspys_adapter(garden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arms = ["--evaluation.arms", "bootstrap", "--splits.folds", "1"]
    line = r"  evaluation, zero_shot \(DSPy's adapter\), if its prompts differ: \d+ calls"
    assert re.search(line, plan_of(capsys, *arms))
    quick = plan_of(capsys, "--quick", *arms)
    assert "adapter" not in quick  # which has no such row
    assert not re.search(r"price|\$|answered already", quick)


def test_a_compile_whose_time_is_up_loads_no_model_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = tmp_path / "work"
    workspace_with_program(workspace)
    monkeypatch.chdir(workspace)
    models = [word for role in ("student", "teacher") for word in (f"--models.{role}", KIND[1])]
    with serving(Behaviour()) as server:
        models += ["--models.api-base", server.url, "--evaluation.arms", "bootstrap"]
        with monkeypatch.context() as patch:
            patch.setattr(experiment, "open_role", lambda *_: pytest.fail("a model was opened"))
            with pytest.raises(BudgetReached, match=r"of 1e-06 minutes .*--resume \S+ with a higher") as stopped:
                cli.main(["ask", *models, "--max-minutes", "1e-6"])
        (run,) = (word.strip("'`") for word in str(stopped.value).split() if "/runs/ask/" in word)
        with pytest.raises(SetupError, match=r"was started with another evaluation\.arms: leave it out of the call"):
            compile_task("ask", resume=run, arms=["random_search"], max_minutes=60)
        compile_task("ask", resume=run, arms=["bootstrap"], max_minutes=60)
        assert (Path(run) / "results.json").is_file()
        assert cli.main(["ask", "--resume", run, "--max-minutes", "60"]) == 0


def test_a_compile_stops_at_its_budget_and_goes_on_with_more(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = tmp_path / "work"
    workspace_with_program(workspace)
    monkeypatch.chdir(workspace)
    models = [word for role in ("student", "teacher") for word in (f"--models.{role}", KIND[1])]
    models += ["--models.api-base", server.url, "--concurrency", "1"]
    match = r"\$0\.00\d+ spent in \d priced calls.*--resume \S+ with a higher"
    with pytest.raises(BudgetReached, match=match) as stopped:
        cli.main(["ask", *models, "--evaluation.arms", "bootstrap", "--max-usd", "0.0015"])
    first = capsys.readouterr().err
    assert "plan: about" in first
    assert "answered already" not in first
    (run,) = (word.strip("'`") for word in str(stopped.value).split() if "/runs/ask/" in word)
    assert not (Path(run) / "results.json").exists()
    with pytest.raises(BudgetReached):
        cli.main(["ask", "--resume", run])
    assert re.search(r"\n  of these, [1-9] calls? answered already will not be made again", capsys.readouterr().err)
    with pytest.raises(SetupError, match="--max-usd is 'much'"):
        cli.main(["ask", "--resume", run, "--max-usd", "much"])
    assert cli.main(["ask", "--resume", run, "--max-usd", "1"]) == 0
    assert server.answered.total() == len(server.answered)
    spending = json.loads((Path(run) / "measurements.json").read_text())["spending"]
    assert sum(role["calls"] for role in spending) == server.answered.total()
    assert all(role["cost_usd"] == pytest.approx(role["calls"] * 0.0006) for role in spending)
    report = (Path(run) / "report.md").read_text()
    assert "| student |" in report.partition("| Spent |")[2]
    assert "Spent, by role" in (Path(run) / "report.html").read_text()
