"""Arms whose training was discarded: they are the model that they started from, and no second test is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finished_runs import make_run, row, summarise
from test_judged import texts

from synth_dspy.evaluation.finished_runs import find_arms, read_run
from synth_dspy.evaluation.view import Results

Json = dict[str, Any]
CHANGED_NOTHING = "its training changed no answer"


def training(method: str, first: float = 2.0, last: float = 0.5, **more: Any) -> Json:
    facts = {"method": method, "rows": 40, "by_origin": {"gold": 40}, "dropped": {}, "steps": 40, "stopped": "finished"}
    return {**facts, "loss": {"first": first, "last": last}, "parity": None, **more}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Of rag, sft, dpo and orpo, where orpo's training changed no answer of sft, and dpo scores as sft does."""
    right = {"rag": 2, "sft": 4, "dpo": 4, "orpo": 4}
    rows = [
        row("sft" if name == "orpo" else name, i, float(i % 5 < share), group=f"doc-{i % 9}") | {"arm": name}
        for name, share in right.items()
        for i in range(20)
    ]
    arms: list[Json] = [
        {"name": "rag"},
        {"name": "sft", "training": training("sft")},
        {"name": "dpo", "training": training("dpo", adapters=["adapters/sft"])},
        {
            "name": "orpo",
            "training": training("sft"),
            "discarded": {"training": training("orpo", 1.9, 2.5, rows=5, steps=2), "why": CHANGED_NOTHING},
            "same_as": "sft",
        },
    ]
    return make_run(tmp_path / "run", rows, arms=arms, pairs="all")


def test_it_is_named_as_the_arm_that_it_is(run: Path) -> None:
    for text in texts(run):
        assert "orpo = sft" in text
        assert CHANGED_NOTHING in text
        assert "cannot tell them apart" not in text
    results = Results.read(run)
    assert results["orpo"].same_as == "sft"
    assert results["sft"].same_as is None


def test_its_answers_are_shown_once(run: Path) -> None:
    page, markdown, _ = texts(run)
    shown = markdown.partition("## Sample answers")[2].partition("## Data")[0]
    assert "| sft (= orpo) | " in shown
    assert "| orpo" not in shown
    assert "<span>sft (= orpo)</span>" in page


def test_it_is_not_tested_and_costs_no_correction(run: Path) -> None:
    results = read_run(run).results
    for comparisons in (results["comparisons"], results["comparisons_own"], results["comparisons_trivial"]):
        assert all("orpo" not in (each["arm"], each["against"]) for each in comparisons)
    assert len(results["comparisons"]) == 3
    assert results["alike"] == []
    assert [arm.name for arm in find_arms([read_run(run)])] == ["rag", "sft", "dpo"]
    assert [arm.name for arm in find_arms([read_run(run)], ["orpo"])] == ["orpo"]


def test_the_verdict_names_all_that_are_tied(run: Path) -> None:
    detail = read_run(run).results["verdict"]["detail"]
    assert "The highest-scoring other arms, sft (= orpo) and dpo, tied, differ by +40.0 points (95 %" in detail


def test_tied_arms_with_other_intervals_say_whose_is_shown() -> None:
    def score(name: str, i: int) -> float:
        return float(i < {"rag": 10, "a": 15}[name]) if name != "b" else float(i >= 5)

    rows = [row(name, i, score(name, i)) for name in ("rag", "a", "b") for i in range(20)]
    results, _ = summarise(rows, {"baseline": "rag", "score": "accuracy"})
    assert "other arms, a and b, tied, differ by +25.0 points (for a: 95 % interval" in results["verdict"]["detail"]


def test_the_tables_of_trainings_are_of_its_own(run: Path) -> None:
    _, markdown, _ = texts(run)
    (rows_of_training,) = [line for line in markdown.splitlines() if line.startswith("| orpo | ORPO | 5 |")]
    assert "gold answers: 40" in rows_of_training
    (figures,) = [line for line in markdown.splitlines() if line.startswith("| orpo |") and "→" in line]
    assert "1.900 → 2.500" in figures
    assert f"discarded: {CHANGED_NOTHING}" in figures


def test_beside_a_baseline_that_it_equals_there_is_nothing_to_compare(tmp_path: Path) -> None:
    """As where `warm` is off and nothing was learned."""
    rows = [row("rag", i, float(i % 2)) | {"arm": name} for name in ("rag", "orpo") for i in range(40)]
    orpo = {"discarded": {"training": training("orpo"), "why": CHANGED_NOTHING}, "name": "orpo", "same_as": "rag"}
    folder = make_run(tmp_path / "run", rows, arms=[{"name": "rag"}, orpo])
    results = read_run(folder).results
    assert results["comparisons"] == []
    assert "there is no other program (orpo = rag)" in results["verdict"]["headline"]
    assert all("orpo = rag" in text for text in texts(folder))


def test_without_the_arm_that_it_is_its_caveat_stays(tmp_path: Path) -> None:
    rows = [row(name, i, float(i % 2)) for name in ("rag", "orpo") for i in range(40)]
    orpo = {"discarded": {"training": training("orpo"), "why": CHANGED_NOTHING}, "name": "orpo", "same_as": None}
    results, _ = summarise(rows, {"arms": [{"name": "rag"}, orpo], "score": "accuracy"})
    assert len(results["comparisons"]) == 1
    assert any(note.startswith("orpo is the model that the training started from") for note in results["notes"])


@pytest.mark.parametrize(("method", "last", "warned"), [("sft", 5.429, True), ("sft", 2.9, False), ("grpo", 5, False)])
def test_a_loss_that_rose_is_a_caveat(tmp_path: Path, method: str, last: float, warned: bool) -> None:
    rows = [row(name, i, float(i % 2)) for name in ("rag", "tuned") for i in range(40)]
    arms = [{"name": "rag"}, {"name": "tuned", "training": training(method, 2.955, last)}]
    folder = make_run(tmp_path / "run", rows, arms=arms)
    notes = [
        note for note in json.loads((folder / "results.json").read_text())["notes"] if "loss of tuned rose" in note
    ]
    assert len(notes) == warned
    assert all("from 2.955 to 5.429" in note and "--training.options.sft.learning_rate" in note for note in notes)
    assert ("as planned, but the loss rose" in texts(folder)[1]) == warned


def test_printed_results_are_a_table_with_the_path_of_the_report(run: Path) -> None:
    lines = str(Results.read(run)).splitlines()
    assert lines[0].startswith("Too few items to say")
    heads, rag, sft, _, orpo = lines[2:7]
    assert heads.split() == ["arm", "n", "score", "%", "95", "%", "interval", "p", "(Holm)"]
    assert rag.split()[:3] == ["rag", "20", "40.0"]
    assert sft.split()[:3] == ["sft", "20", "80.0"]
    assert len(sft.split()) == 7
    assert orpo.split()[:5] == ["orpo", "=", "sft", "20", "80.0"]
    assert lines[-1] == f"Report: {run / 'report.html'}"
