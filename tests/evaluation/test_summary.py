"""From predictions to results: what is counted, compared and said."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from finished_runs import summarise

from synth_dspy.evaluation.scores import scores, scores_of

Rows = Callable[..., list[dict[str, Any]]]


def _arm(results: dict[str, Any], name: str) -> dict[str, Any]:
    return next(a for a in results["arms"] if a["name"] == name)


def test_a_much_better_arm_is_called_better(answers: Rows, facts: dict[str, Any]) -> None:
    rag = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0] * 4
    lora = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 0] * 4
    results, _ = summarise(answers({"rag": rag, "lora": lora}), facts)
    (compared,) = results["comparisons"]
    assert compared["outcome"] == "better"
    assert compared["difference"] == pytest.approx(0.5)
    assert compared["relative_percent"] == pytest.approx(200)
    assert compared["unit"] == "groups"
    assert results["verdict"]["best"] == "lora"
    assert "lora is better than rag" in results["verdict"]["headline"]


def test_identical_arms_show_no_evidence_of_a_difference(answers: Rows, facts: dict[str, Any]) -> None:
    results, _ = summarise(answers({"rag": [0, 1] * 20, "twin": [0, 1] * 20}), facts)
    (compared,) = results["comparisons"]
    assert compared["outcome"] == "no evidence of a difference"
    assert (compared["difference"], compared["p"]) == (0, 1)
    assert compared["low"] < 0 < compared["high"]
    assert results["verdict"]["best"] is None
    assert "No evidence" in results["verdict"]["headline"]


def test_a_small_difference_comes_with_the_smallest_one_that_could_be_seen(
    answers: Rows, facts: dict[str, Any]
) -> None:
    rng = random.Random(1)
    scores = {arm: [float(rng.random() < 0.5) for _ in range(40)] for arm in ("rag", "bootstrap")}
    results, _ = summarise(answers(scores), facts)
    least = results["comparisons"][0]["smallest_detectable"]
    assert 0.15 < least < 0.5
    assert f"about {100 * least:.0f} points" in results["verdict"]["detail"]


def test_a_baseline_that_beats_all_is_best(answers: Rows, facts: dict[str, Any]) -> None:
    results, _ = summarise(answers({"rag": [1, 1, 1, 0] * 12, "bootstrap": [0, 0, 1, 0] * 12}), facts)
    assert results["comparisons"][0]["outcome"] == "worse"
    assert results["verdict"]["best"] == "rag"


def test_the_correction_covers_what_is_compared(answers: Rows, facts: dict[str, Any]) -> None:
    scores = {"rag": [0, 1, 0, 1] * 10, "a": [1, 1, 0, 1] * 10, "b": [1, 0, 0, 1] * 10}
    few, _ = summarise(answers(scores), facts)
    every, _ = summarise(answers(scores), {**facts, "pairs": "all"})
    assert [(c["arm"], c["against"]) for c in few["comparisons"]] == [("a", "rag"), ("b", "rag")]
    assert {(c["arm"], c["against"]) for c in every["comparisons"]} == {("a", "rag"), ("b", "rag"), ("b", "a")}
    assert every["comparisons"][0]["p"] == few["comparisons"][0]["p"]
    # Whether an arm beats the baseline does not depend on what else is compared.
    assert every["comparisons"][:2] == few["comparisons"]
    assert few["comparisons"][0]["p_holm"] == min(1, 2 * few["comparisons"][0]["p"])
    assert every["comparisons"][2]["p_holm"] == every["comparisons"][2]["p"]
    assert "was not tested" in few["verdict"]["detail"]
    assert "was not tested" not in every["verdict"]["detail"]


def test_a_failed_call_counts_where_the_score_applies(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    """Twenty crashes and twenty right answers are half right; a score that does not apply counts for nothing."""
    rows = [
        predict("rag", i, 1.0, scores={"judged": 1.0, "kept": 1.0, "f1": None if i < 10 else 1.0}) for i in range(20)
    ]
    rows += [
        predict("rag", i, 0.0, scores={"judged": 0.0, "kept": 0.0, "f1": None}, error="E: no") for i in range(20, 40)
    ]
    arm = _arm(summarise(rows, facts)[0], "rag")
    assert (arm["further"]["kept"]["mean"], arm["further"]["kept"]["n"]) == (0.5, 40)
    assert (arm["scores"]["f1"]["mean"], arm["scores"]["f1"]["n"]) == (pytest.approx(1 / 3), 30)


def test_declining_has_an_f1_with_an_interval(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    rows = [
        predict("rag", i, 1.0, references=["x"] if i % 3 else [], abstained=i % 9 == 0 or i in (3, 12, 20, 21))
        for i in range(40)
    ]
    abstention = _arm(summarise(rows, facts)[0], "rag")["abstention"]
    f1 = 2 * abstention["precision"] * abstention["recall"] / (abstention["precision"] + abstention["recall"])
    assert abstention["f1"]["mean"] == pytest.approx(f1, abs=1e-6)
    assert 0 < abstention["f1"]["low"] < f1 < abstention["f1"]["high"] < 1


def _with_f1(rows: list[dict[str, Any]], f1: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    """The same rows with token F1 of their own, in order."""
    left = {arm: iter(values) for arm, values in f1.items()}
    return [{**row, "scores": {**row["scores"], "f1": next(left[row["arm"]])}} for row in rows]


def test_the_task_s_own_scores_are_compared_as_a_family_of_their_own(answers: Rows, facts: dict[str, Any]) -> None:
    judged = {arm: [0, 1, 1, 0] * 12 for arm in ("rag", "a", "b")}  # alike to the judge
    wobble = [0.01 * (i % 5) for i in range(48)]
    f1: dict[str, list[float | None]] = {
        "rag": [0.1 + x for x in wobble], "a": [0.6 - x for x in wobble], "b": [0.1 + x for x in reversed(wobble)]
    }  # fmt: skip
    rows = _with_f1(answers(judged), f1)
    results, _ = summarise(rows, facts)
    a, b, *exact = results["comparisons_own"]
    assert [c["p_holm"] for c in results["comparisons"]] == [1, 1]
    assert a.keys() == results["comparisons"][0].keys()
    assert (a["score"], a["arm"], a["against"], a["n"], a["unit"]) == ("f1", "a", "rag", 48, "groups")
    assert [(c["score"], c["arm"]) for c in exact] == [("exact", "a"), ("exact", "b")]
    assert a["difference"] == pytest.approx(0.5 - 2 * sum(wobble) / 48)
    assert 0.4 < a["low"] < a["difference"] < a["high"]
    assert (a["outcome"], b["outcome"]) == ("better", "no evidence of a difference")
    assert a["p_holm"] == pytest.approx(4 * a["p"], abs=4e-6)  # two arms, two scores; the judge's are not among them
    assert a["sentence"].startswith("In token F1: a is better than rag")
    every, _ = summarise(rows, {**facts, "pairs": "all"})
    assert {(c["arm"], c["against"]) for c in every["comparisons_own"]} == {("a", "rag"), ("b", "rag"), ("b", "a")}


def test_token_f1_of_yes_no_items_is_not_compared(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    rows = [predict(arm, i, 0.0) for arm in ("rag", "a") for i in range(12)]
    rows += [predict(arm, i, float(arm == "a"), answer_type="yes_no") for arm in ("rag", "a") for i in range(12, 20)]
    compared, _ = summarise(rows, facts)[0]["comparisons_own"]
    assert (compared["n"], compared["difference"]) == (12, 0)


def test_a_task_without_token_f1_has_no_comparisons_of_it(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    rows = [predict(arm, i, 1.0, scores={"judged": 1.0}) for arm in ("rag", "a") for i in range(12)]
    results, _ = summarise(rows, facts)
    assert (len(results["comparisons"]), results["comparisons_own"]) == (1, [])


def test_yes_no_items_are_apart(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    rows = [predict("rag", i, 0.0) for i in range(12)]
    rows += [
        predict("rag", i, 1.0, answer_type="yes_no", references=["Yes" if i < 18 else "no"]) for i in range(12, 20)
    ]
    results, _ = summarise(rows, facts)
    rag = _arm(results, "rag")
    assert (rag["scores"]["judged"]["mean"], rag["scores"]["judged"]["n"]) == (0, 12)
    assert (rag["yes_no"]["judged"]["mean"], rag["yes_no"]["judged"]["n"]) == (1, 8)
    assert results["majority_yes_no"] == 0.75
    assert results["items"] == {"n": 20, "headline": 12, "yes_no": 8, "unanswerable": 0, "groups": 5}


def test_abstention_precision_and_recall(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    # 4 items demand abstention, 3 of them get it; 2 more abstentions are wrong.
    rows = [predict("rag", i, 1.0, references=[], abstained=i < 3) for i in range(4)]
    rows += [predict("rag", i, 0.0, abstained=i < 6) for i in range(4, 20)]
    abstention = _arm(summarise(rows, facts)[0], "rag")["abstention"]
    assert (abstention["precision"], abstention["recall"], abstention["accuracy"]) == (0.6, 0.75, 0.85)


def test_an_arm_that_never_abstains_has_no_precision(answers: Rows, facts: dict[str, Any]) -> None:
    abstention = _arm(summarise(answers({"rag": [1, 0]}), facts)[0], "rag")["abstention"]
    assert (abstention["precision"], abstention["recall"]) == (None, None)


def test_retrieval_is_over_the_items_that_have_it(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    means = {"judged": 1.0, "f1": 1.0, "exact": 1.0, "recall": 0.5, "mrr": 1.0, "abstention": None}
    rows = [predict("rag", 0, 1.0, scores=means), predict("rag", 1, 1.0, scores={**means, "recall": None, "mrr": None})]
    recall = _arm(summarise(rows, facts)[0], "rag")["retrieval"]["recall"]
    assert (recall["mean"], recall["n"]) == (0.5, 1)


def test_a_failed_call_counts_as_wrong_and_is_named(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    rows = [predict("rag", 0, 1.0), predict("rag", 1, 0.0, scores={"judged": None}, error="timed out")]
    results, _ = summarise(rows, facts)
    assert _arm(results, "rag")["scores"]["judged"]["mean"] == 0.5
    assert any("rag 1 of 2" in note for note in results["notes"])


def test_arms_are_compared_on_the_items_both_answered(answers: Rows, facts: dict[str, Any]) -> None:
    results, _ = summarise(answers({"rag": [0] * 20, "partial": [1] * 15}), facts)
    assert results["comparisons"][0]["n"] == 15
    assert any("partial answered 15 of 20" in note for note in results["notes"])


def test_a_failed_arm_keeps_its_reason_and_no_score(answers: Rows, facts: dict[str, Any]) -> None:
    facts["arms"].append({"name": "mipro", "failed": "out of context"})
    results, _ = summarise(answers({"rag": [0, 1] * 10}), facts)
    mipro = _arm(results, "mipro")
    assert (mipro["n"], mipro["scores"]["judged"]["mean"], mipro["failed"]) == (0, None, "out of context")
    assert results["comparisons"] == []
    assert "no comparison" in results["verdict"]["headline"]


@pytest.mark.parametrize(
    ("kappa", "warning"),
    [(None, "was not measured here"), (0.41, "agrees poorly with people (kappa 0.41"), (0.87, None)],
)
def test_a_judge_of_little_worth_is_warned_of(
    kappa: float | None, warning: str | None, answers: Rows, facts: dict[str, Any]
) -> None:
    facts["judge"]["kappa"] = kappa
    notes_on_judge = [note for note in summarise(answers({"rag": [0, 1] * 20}), facts)[0]["notes"] if "judge" in note]
    assert len(notes_on_judge) == (warning is not None)
    assert warning is None or warning in notes_on_judge[0]


def test_few_documents_are_warned_of(answers: Rows, facts: dict[str, Any]) -> None:
    results, _ = summarise(answers({"rag": [0, 1] * 10}), facts)
    assert results["method"]["unit"] == "items"
    assert any("only 5 documents" in note for note in results["notes"])


@pytest.mark.parametrize(("n", "few"), [(9, True), (10, False)])
def test_how_the_interval_of_few_items_is_made_is_said(answers: Rows, facts: dict[str, Any], n: int, few: bool) -> None:
    results, _ = summarise(answers({"rag": [0.9] * n}), facts)
    assert ("fewer than 10 items" in results["method"]["interval"]) is few
    assert results["method"]["interval"].startswith("95 % BCa bootstrap, t-expanded")


@pytest.mark.parametrize("scores", [[0, 1, 0, 0, 0, 0, 0, 0], [0.2, 0.9, 0.4, 0.4, 0.1, 0.7] * 3])
def test_a_breakdown_of_all_items_has_the_interval_of_the_arm(
    answers: Rows, facts: dict[str, Any], scores: list[float]
) -> None:
    results, _ = summarise([{**row, "category": "only"} for row in answers({"rag": scores})], facts)
    (part,) = results["breakdown"]["category"]
    assert part["arms"]["rag"]["judged"] == _arm(results, "rag")["scores"]["judged"]


def test_results_do_not_depend_on_order_or_on_what_two_equal_runs_measure(answers: Rows, facts: dict[str, Any]) -> None:
    rng = random.Random(0)
    scores = {arm: [rng.random() for _ in range(48)] for arm in ("rag", "a", "b")}
    rows = answers(scores)
    again = [{**row, "latency_s": rng.random(), "cpu_s": rng.random(), "cost_usd": rng.random()} for row in rows]
    rng.shuffle(again)
    other = {**facts, "run_id": "run-2", "wall_s": 7.0, "peak_rss_mb": 1.0, "stations": [], "command": "--resume run-1"}
    other["arms"] = [{**arm, "compile_seconds": 99.0} for arm in facts["arms"]]
    one, first = summarise(rows, facts)
    two, second = summarise(again, other)
    assert json.dumps(one) == json.dumps(two)
    assert first != second


def test_results_and_measurements_are_json_without_nan(answers: Rows, facts: dict[str, Any]) -> None:
    facts["judge"]["auroc"] = float("nan")
    both = summarise(answers({"rag": [0, 0, 0], "lora": [1, 1, 1]}), facts)
    assert json.loads(json.dumps(both, allow_nan=False)) == list(both)
    assert both[0]["judge"]["auroc"] is None
    assert both[0]["comparisons"][0]["relative_percent"] is None


def test_latency_cost_and_tokens(answers: Rows, facts: dict[str, Any]) -> None:
    results, measured = summarise(answers({"rag": [1.0] * 11}), facts)
    rag = measured["arms"]["rag"]
    assert (rag["latency_p50_s"], rag["latency_p95_s"]) == (pytest.approx(0.6), pytest.approx(1.05))
    assert rag["cpu_s_per_item"] == 0.25
    assert _arm(results, "rag")["tokens"] == {"prompt": 500, "completion": 10}


def test_two_answers_to_one_item_are_refused(answers: Rows, facts: dict[str, Any]) -> None:
    rows = answers({"rag": [1]})
    with pytest.raises(ValueError, match="two predictions of arm 'rag' for item 'item-000'"):
        summarise(rows + rows, facts)


def test_nothing_at_all() -> None:
    results, _ = summarise([], {})
    assert results["verdict"]["outcome"] == "nothing scored"
    assert results["items"]["n"] == 0


def test_a_metric_says_what_its_score_is_about(predict: Callable[..., Any], facts: dict[str, Any]) -> None:
    """Of a task whose names are those of other metrics: nothing is taken for token F1 or retrieval by its name."""

    @scores("answer", "words in common")
    def overlap(example: Any, prediction: Any, trace: Any = None) -> float:
        return 1.0

    def f1(example: Any, prediction: Any, trace: Any = None) -> float:
        return 1.0

    rows = [
        predict(arm, i, float(i % 2), scores={"judged": float(i % 2), "overlap": float(arm == "sft"), "f1": 0.5})
        for arm in ("rag", "sft")
        for i in range(40)
    ]
    results, _ = summarise(rows, {**facts, "scores": scores_of({"overlap": overlap, "f1": f1})})
    arm = _arm(results, "rag")
    assert (set(arm["scores"]), set(arm["further"]), arm["retrieval"]) == ({"judged", "overlap"}, {"f1"}, {})
    (compared,) = results["comparisons_own"]
    assert compared["sentence"].startswith("In words in common: sft is better than rag")
    assert results["score_labels"] == {"overlap": "words in common", "f1": "f1"}
    assert "Words in common does show a difference" in results["verdict"]["headline"]
