"""The report of a task whose answer is one of several labels, or whose score is a metric of the user's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from finished_runs import make_run, row, summarise
from rich.console import Console

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.choice.candidates import choose
from synth_dspy.evaluation.choice.options import Limits
from synth_dspy.evaluation.finished_runs import find_arms, read_run
from synth_dspy.evaluation.report.render import summary_table, write_report
from synth_dspy.evaluation.view import OTHER, Results

CLASSES = ("billing", "card", "other")
Write = Callable[..., Path]


def labelled(arm: str, labels: Sequence[str], answers: Sequence[str]) -> list[dict[str, Any]]:
    return [
        row(
            arm,
            i,
            float(label.casefold() == answer.casefold()),
            references=[label],
            prediction=answer,
            category=label,
            answer_type="label",
            scores={"judged": float(label.casefold() == answer.casefold())},
        )
        for i, (label, answer) in enumerate(zip(labels, answers, strict=True))
    ]


RIGHT = ["billing", "billing", "card", "card"] * 10
ROWS = [
    *labelled("zero_shot", RIGHT, ["billing", "Card", "card", "a loan"] * 10),
    *labelled("sft", RIGHT, ["billing", "billing", "card", "other"] * 10),
]


@pytest.fixture
def triage(tmp_path: Path) -> Path:
    """A finished run of a task with three labels."""
    return make_run(
        tmp_path / "run", ROWS, task="triage", classes=CLASSES, score="accuracy", judge={"name": "equality"}
    )


def test_macro_f1_and_confusion_matrix_of_every_arm(triage: Path) -> None:
    triage_record = Results.read(triage).classification
    assert triage_record is not None
    assert triage_record.classes == CLASSES
    arm = triage_record.arms["zero_shot"]
    # billing: 10 right, 10 missed, none wrongly; card: 10 right, 10 missed, 10 wrongly; nothing is of the class other.
    assert arm.macro_f1.mean == pytest.approx((2 / 3 + 1 / 2) / 2, abs=1e-6)
    assert arm.macro_f1.low < arm.macro_f1.mean < arm.macro_f1.high
    assert arm.macro_f1.n == 40
    assert arm.confusion["billing"] == {"billing": 10, "card": 10, "other": 0, OTHER: 0}
    assert arm.confusion["card"] == {"billing": 0, "card": 10, "other": 0, OTHER: 10}
    assert triage_record.arms["sft"].confusion["card"] == {"billing": 0, "card": 10, "other": 10, OTHER: 0}
    assert triage_record.to_pandas("sft").loc["card", "other"] == 10


def test_the_report_speaks_of_accuracy_and_not_of_a_judge_or_abstention(triage: Path) -> None:
    for path in write_report(triage):
        text = path.read_text(encoding="utf-8")
        assert re.search("Accuracy, %", text)
        assert "Macro F1" in text
        assert "Confusion matrix: sft" in text
        assert "scored by equality" in text
        assert "sft is better than zero" in text
        assert ": accuracy 75.0" in text
        assert not re.search(r"[Jj]udged|[Aa]bstain|[Aa]bstention|agrees with people", text)
    html = (triage / "report.html").read_text(encoding="utf-8")
    assert html.count("<table") == html.count("</table>")
    assert "<title>Accuracy</title>" in html


def test_the_terminal_has_macro_f1_and_no_column_without_a_title(triage: Path, tmp_path: Path) -> None:
    run = read_run(triage)
    table = summary_table(run.results, run.measurements)
    assert [" ".join(str(column.header).split()) for column in table.columns][1:6] == [
        "accuracy %", "95 % interval", "vs zero_shot", "p Holm", "macro F1 %"
    ]  # fmt: skip
    console = Console(width=80, record=True)
    console.print(table)
    assert "…" not in console.export_text()
    rows = [{**each, "scores": {"judged": each["scores"]["judged"]}} for each in ROWS]
    other = read_run(make_run(tmp_path / "other", rows))
    heads = [str(column.header) for column in summary_table(other.results, other.measurements).columns]
    assert heads[4:] == ["p Holm", "p50 s", "tokens"]


def test_the_choice_calls_the_score_by_its_name(triage: Path) -> None:
    choice = choose(find_arms([read_run(triage)]), Limits())
    assert "accuracy 75.0 %" in choice["recommendation"]
    assert "judged" not in choice["recommendation"]


def test_a_metric_of_the_users_own_is_called_by_its_name(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ROWS, score="close_enough", judge={"name": "close_enough"})
    for path in write_report(run):
        text = path.read_text(encoding="utf-8")
        assert ": close enough 75.0" in text
        assert "Close enough, %" in text
        assert "judged" not in text.lower()
    assert Results.read(run).classification is None


def test_rows_without_a_label_make_no_classification(facts: dict[str, Any]) -> None:
    rows = [{**each, "references": []} for each in ROWS]
    results, _ = summarise(rows, {**facts, "classes": CLASSES, "score": "my_metric"})
    assert "classification" not in results


def test_macro_f1_is_over_the_classes_that_items_have() -> None:
    assert stats.macro_f1([], []).mean is None
    assert stats.macro_f1(["a", "c"], ["a", "b"]).mean == pytest.approx(0.5)
    perfect = stats.macro_f1(["a", "b"] * 6, ["a", "b"] * 6)
    assert perfect.mean == 1.0
    assert perfect.high == 1.0
    assert perfect.low < 0.8  # twelve right answers do not show that all are


def test_macro_f1_is_the_same_in_any_order_and_by_group() -> None:
    labels, answers = ["a", "b", "b", "c"] * 12, ["a", "b", "a", "b"] * 12
    groups = [f"group {i // 3}" for i in range(48)]
    pairs = sorted(zip(answers, labels, groups, strict=True), key=lambda each: each[::-1])
    one = stats.macro_f1(answers, labels, groups)
    other = stats.macro_f1(*map(list, zip(*pairs, strict=True)))
    assert one == other
    assert one.unit == "groups"
    assert one.units == 16
    assert one.low < one.mean < one.high
