"""Budgets: what is admitted, when a run stops, how it goes on; the plan, and what was spent by role."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from applied import workspace_with_program
from servers import Behaviour, Server, serving

from synth_dspy.cli import compile as cli
from synth_dspy.core.budget import Budget
from synth_dspy.core.errors import BudgetReached, SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall, Unit
from synth_dspy.models.prices import given_price, list_price
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.plan import Rate, Step, describe, measured_rate

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
    assert "default rates" in describe([Step("apply", 10, Rate())])


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
        assert cli.main(["ask", "--resume", run, "--max-minutes", "60"]) == 0
    assert (Path(run) / "results.json").is_file()


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
    assert "plan: about" in capsys.readouterr().err
    (run,) = (word.strip("'`") for word in str(stopped.value).split() if "/runs/ask/" in word)
    assert not (Path(run) / "results.json").exists()
    with pytest.raises(BudgetReached):
        cli.main(["ask", "--resume", run])
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
