"""What the first lines of a report say, and what they do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from finished_runs import summarise

from synth_dspy.evaluation.report.verdict import points

Rows = Callable[..., list[dict[str, Any]]]
REFERENCES = [
    {"name": "always silent", "kind": "silent", "answer": "Silent."},
    {"name": "rag (DSPy's adapter)", "kind": "prompts", "answer": None},
]


def verdict(rows: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    return summarise(rows, facts)[0]["verdict"]


@pytest.mark.parametrize(("n", "enough"), [(28, False), (32, True)])
def test_below_thirty_items_nothing_is_called_better(
    answers: Rows, facts: dict[str, Any], n: int, enough: bool
) -> None:
    results, _ = summarise(answers({"rag": [0] * n, "sft": [1] * n}), facts)
    assert results["comparisons"][0]["p_holm"] < 0.001 or not enough
    assert results["verdict"]["headline"].startswith(
        "sft is better than rag" if enough else f"Too few items to say whether any arm is better than rag (n = {n})."
    )
    assert (results["verdict"]["best"], results["comparisons"][0]["outcome"]) == (
        ("sft", "better") if enough else (None, "too few items")
    )


def test_an_arm_that_scores_far_lower_is_in_the_headline(answers: Rows, facts: dict[str, Any]) -> None:
    level = verdict(answers({"rag": [1, 0] * 15, "sft": [0, 0, 0, 1] * 7 + [1, 1], "kto": [1, 0] * 15}), facts)
    assert level["headline"] == "No evidence that any arm is better than rag. sft scores 20 points lower."
    scores = {"rag": [1, 0] * 24, "sft": [1] * 48, "dpo": [0] * 48}
    many = verdict(answers(scores), facts)
    assert many["headline"].startswith("sft is better than rag")
    assert many["headline"].endswith("dpo is worse.")


def test_too_few_items_rank_no_arms(answers: Rows, facts: dict[str, Any]) -> None:
    few = verdict(answers({"rag": [1, 0] * 4, "sft": [0] * 8, "dpo": [0] * 7 + [1], "kto": [1, 0] * 4}), facts)
    assert few["headline"] == "Too few items to say whether any arm is better than rag (n = 8)."


def _scored(answers: Rows, judged: dict[str, list[float]], f1: dict[str, float]) -> list[dict[str, Any]]:
    rows = answers(judged)
    for i, row in enumerate(rows):
        row["scores"] |= {"f1": f1[row["arm"]] + 0.01 * (i % 5), "exact": None}
    return rows


def test_a_difference_that_only_the_task_s_own_score_shows_is_in_the_headline(
    answers: Rows, facts: dict[str, Any]
) -> None:
    judged: dict[str, list[float]] = {arm: [0, 1, 1, 0] * 12 for arm in ("rag", "sft", "dpo")}
    conclusion = verdict(_scored(answers, judged, {"rag": 0.2, "sft": 0.5, "dpo": 0.2}), facts)
    assert conclusion["headline"].startswith(
        "No evidence that any arm is better than rag. Token F1 does show a difference: "
    )
    assert "sft +30" in conclusion["headline"]
    assert "dpo" not in conclusion["headline"]
    assert (conclusion["best"], "The judge differed from people on 6.0 % of 900 answers" in conclusion["detail"]) == (
        None,
        True,
    )


def test_a_score_that_contradicts_the_judge_is_not_hidden(answers: Rows, facts: dict[str, Any]) -> None:
    judged: dict[str, list[float]] = {"rag": [0, 0, 1, 0] * 12, "sft": [1, 1, 1, 0] * 12}
    conclusion = verdict(_scored(answers, judged, {"rag": 0.5, "sft": 0.2}), facts)
    assert "sft is better than rag" in conclusion["headline"]
    assert "Token F1 says the opposite of the judge: sft \u221229.9 points" in conclusion["headline"]
    agreeing = verdict(_scored(answers, judged, {"rag": 0.2, "sft": 0.5}), facts)
    assert "Token F1" not in agreeing["headline"]
    assert "It is also better by token F1 (+30" in agreeing["detail"]


def test_own_scores_are_those_that_the_task_declares(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    rows = [
        predict(arm, i, float(i % 2), scores={"judged": float(i % 2), "right_name": float(arm == "sft" or i % 4 == 0)})
        for arm in ("rag", "sft")
        for i in range(48)
    ]
    assert summarise(rows, facts)[0]["comparisons_own"] == []
    conclusion = verdict(rows, {**facts, "objective": "right_name"})
    assert "Right name does show a difference: sft +75.0 points" in conclusion["headline"]


def test_rows_beside_the_arms_change_nothing_about_the_arms(answers: Rows, facts: dict[str, Any]) -> None:
    arms = {"rag": [1, 0, 0, 0] * 12, "sft": [1, 1, 0, 1] * 12}
    alone, _ = summarise(answers(arms), facts)
    reference_answers = answers({"always silent": [0, 0, 0, 1] * 12, "rag (DSPy's adapter)": [1, 1, 1, 1] * 12})
    results, measurements = summarise(answers(arms) + reference_answers, {**facts, "reference_rows": REFERENCES})
    for key in ("arms", "comparisons", "comparisons_own", "items", "breakdown", "alike"):
        assert results[key] == alone[key], key
    assert set(measurements["arms"]) == {"rag", "sft"}
    silent, prompts = results["reference_rows"]
    assert (silent["scores"]["judged"]["mean"], prompts["scores"]["judged"]["mean"]) == (0.25, 1.0)
    assert {(c["arm"], c["against"]) for c in results["comparisons_trivial"]} == {
        ("rag", "always silent"), ("sft", "always silent")
    }  # fmt: skip
    (level,) = [note for note in results["notes"] if "the same answer to every question" in note]
    assert "evidence that rag does better" in level  # sft does
    assert any(
        "adapter rag scores 100.0 %, not 25.0 %, on the same 48 items (+75.0" in note for note in results["notes"]
    )


def test_a_baseline_that_scores_higher_under_dspys_adapter_is_set_against_the_best_arm(
    answers: Rows, facts: dict[str, Any]
) -> None:
    """Too little for evidence, and on some of the items only: the reader is told all the same."""
    arms = answers({"rag": [1, 0, 0, 0, 0, 0, 0, 0] * 10, "sft": [0, 1] * 40, "bootstrap": [1, 1, 0, 0, 0] * 16})
    adapter = "rag (DSPy's adapter)"

    def caveat(scores: list[int]) -> list[str]:
        results, _ = summarise(arms + answers({adapter: scores}), {**facts, "reference_rows": REFERENCES})
        return [note for note in results["notes"] if "DSPy's own adapter" in note]

    (note,) = caveat([1, 0, 0, 0, 0, 0, 0, 0] * 4 + [0, 1, 1, 1, 1, 1, 0, 0])
    assert "rag scores 22.5 %, not 12.5 %, on the same 40 items (+10.0 points, p = " in note
    assert "the best of them, sft, differs by +27.5 points (adjusted p" in note
    assert note.endswith("n = 40).")
    assert caveat([1, 0, 0, 0, 0, 0, 0, 0] * 5) == []  # the same score
    assert caveat([0] * 40) == []


def test_a_baseline_no_better_than_a_trivial_answer_is_flagged_beside_the_headline(
    answers: Rows, facts: dict[str, Any]
) -> None:
    rows = answers({"rag": [1, 0] * 24, "sft": [0, 1] * 24, "always silent": [1, 0] * 24})
    detail = verdict(rows, {**facts, "reference_rows": REFERENCES})["detail"]
    assert "There is no evidence that rag does better than the same answer to every question" in detail


def test_wrong_and_abstained_are_counted_apart(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    rows = [predict("rag", i, 1.0) for i in range(5)]
    rows += [predict("rag", i, 0.4) for i in range(5, 9)]
    rows += [predict("rag", i, 1.0, references=[], abstained=True) for i in range(9, 12)]
    rows += [predict("rag", i, 0.0, abstained=True) for i in range(12, 14)]
    rows += [predict("rag", 14, 0.0, abstained=True, error="timed out")]
    rows += [predict("rag", 15, 1.0, answer_type="yes_no")]
    (arm,) = summarise(rows, facts)[0]["arms"]
    assert arm["outcomes"] == {"right": 5, "wrong": 5, "abstained_right": 3, "abstained_wrong": 2}


def test_what_is_true_of_several_arms_is_said_once(answers: Rows, facts: dict[str, Any]) -> None:
    reason = "Provider <dspy.Provider object at 0x7f3a10b2c4d0> does not support fine-tuning"
    facts["arms"] = [{"name": "rag"}, *({"name": name, "failed": reason} for name in ("sft", "dpo", "orpo"))]
    facts["notes"] = [f"What tuning cost {name} elsewhere could not be measured: no room" for name in ("sft", "dpo")]
    results, _ = summarise(answers({"rag": [0, 1] * 20}), facts)
    assert results["notes"][:2] == [
        "What tuning cost sft and dpo elsewhere could not be measured: no room",
        "sft, dpo and orpo failed and have no score: Provider <dspy.Provider object> does not support fine-tuning",
    ]
    assert "0x7f" not in str(results)


@pytest.mark.parametrize(("difference", "text"), [(0.0, "0.0 points"), (-0.0004, "0.0 points"), (0.05, "+5.0 points")])
def test_a_difference_that_rounds_to_nothing_has_no_sign(difference: float, text: str) -> None:
    assert points(difference) == text
