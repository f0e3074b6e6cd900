"""Runs arms on held-out items: one row per arm and item, with the answer, its scores and its cost."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import MetricError, SetupError, message_of
from synth_dspy.core.protocols import Judge, Metric
from synth_dspy.core.text import as_text
from synth_dspy.evaluation.answers import apply_metric, check_score, place_of
from synth_dspy.evaluation.records import Expected, Prediction

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.core.ledger import Ledger

log = logging.getLogger("synth_dspy.evaluation")


def run_arm(
    arm: str,
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    *,
    metrics: Mapping[str, Metric],
    judge: Judge,
    executor: Executor,
    ledger: Ledger,
    advance: Callable[[int], None] | None = None,
    lenient: bool = False,
) -> list[Prediction]:
    """Run a program on every example, then score its answers.

    A call that fails for good counts as a wrong answer, with its error; the other items continue.

    Args:
        arm: the arm's name.
        program: the compiled program, its LM set.
        examples: held-out examples, the same for every arm.
        metrics: metrics by name, each `(example, prediction) -> float in [0, 1]`, NaN if it does not apply.
        judge: scores answers against references.
        executor: runs the calls.
        ledger: records the calls and the cost of each item.
        advance: called with the number of items done since the last call.
        lenient: whether a metric that fails has no score, instead of ending the run.

    Returns:
        Rows in the order of the examples.
    """
    import dspy

    def answer(example: dspy.Example) -> tuple[dspy.Prediction, Any]:
        with ledger.unit(station="evaluation", source=str(example.id), arm=arm), ledger.measure() as usage:
            return program(**example.inputs()), usage

    rows: list[Prediction] = []
    predictions = []
    outcomes = executor.map(answer, examples, progress=advance)
    for example, outcome in zip(examples, outcomes, strict=True):
        error = None
        if outcome.error is None:
            prediction, usage = outcome.unwrap()
        else:
            error = f"{type(outcome.error).__name__}: {message_of(outcome.error)}"
            log.warning("%s: %s failed: %s", arm, example.id, outcome.error)
            prediction, usage = dspy.Prediction(answer="", passages=[]), None
        predictions.append(prediction)
        expected: Expected = {"expected": example.expected} if "expected" in example else {}
        rows.append(
            {
                "arm": arm,
                "id": example.get("id", ""),
                "group": example.get("group", ""),
                "category": example.get("category", ""),
                "answer_type": example.get("answer_type", ""),
                "question": example.get("question", ""),
                "references": list(example.references),
                **expected,
                "prediction": as_text(prediction.get("answer", "")),
                "abstained": bool(prediction.get("abstained", False)),
                "passages": [{"text": text} for text in prediction.get("passages") or []],
                "latency_s": usage.latency_s if usage else None,
                "prompt_tokens": usage.input_tokens if usage else None,
                "completion_tokens": usage.output_tokens if usage else None,
                "cpu_s": usage.cpu_s if usage else None,
                "cost_usd": usage.cost_usd if usage else None,
                "retries": usage.retries if usage else None,
                "error": error,
                "scores": {},
            }
        )
    with ledger.unit(station="evaluation", arm=arm):
        columns = {"judged": _judged(judge, examples, predictions, rows)}
        for name, metric in metrics.items():
            try:
                columns[name] = _measured(name, metric, examples, predictions, rows)
            except MetricError as error:
                if not lenient:
                    raise
                log.warning("%s: %s", arm, error)
                columns[name] = [math.nan] * len(rows)
    for number, row in enumerate(rows):
        values = {name: column[number] for name, column in columns.items()}
        row["scores"] = {name: None if math.isnan(value) else value for name, value in values.items()}
    return rows


def _judged(
    judge: Judge, examples: Sequence[dspy.Example], predictions: Sequence[dspy.Prediction], rows: Sequence[Prediction]
) -> list[float]:
    """The judge's scores in [0, 1]; 0 for a failed call, which a judge of predictions does not get.

    Raises:
        SetupError: a score is neither a number from 0 to 1 nor a truth value, or the number of scores is wrong.
    """
    if hasattr(judge, "score_predictions"):
        scores = _of_answered(judge.name, judge, examples, predictions, rows, always=True)
        return [scores.get(number, 0.0) for number in range(len(rows))]
    given = judge.score_many(rows)
    if len(given) != len(rows):
        raise SetupError(f"{place_of(judge)}: the judge {judge.name!r} gave {len(given)} scores for {len(rows)} rows.")
    checked = [check_score(judge.name, judge, score, always=True) for score in given]
    return [0.0 if row["error"] is not None else score for row, score in zip(rows, checked, strict=True)]


def _measured(
    name: str,
    metric: Metric,
    examples: Sequence[dspy.Example],
    predictions: Sequence[dspy.Prediction],
    rows: Sequence[Prediction],
) -> list[float]:
    """A metric's scores: NaN where it does not apply, else 0 for a failed call."""
    scores = _of_answered(name, metric, examples, predictions, rows)
    failed = [number for number in range(len(rows)) if number not in scores]
    scores |= {number: _of_failed(metric, examples[number], predictions[number]) for number in failed}
    return [scores[number] for number in range(len(rows))]


def _of_answered(
    name: str,
    metric: Metric | Judge,
    examples: Sequence[dspy.Example],
    predictions: Sequence[dspy.Prediction],
    rows: Sequence[Prediction],
    *,
    always: bool = False,
) -> dict[int, float]:
    """Scores of the calls that succeeded, by the rows' indices; all at once if the metric has `score_predictions`."""
    answered = [number for number, row in enumerate(rows) if row["error"] is None]
    many = getattr(metric, "score_predictions", None)
    if many is None:
        return {number: apply_metric(name, metric, examples[number], predictions[number]) for number in answered}
    given = many([examples[number] for number in answered], [predictions[number] for number in answered])
    return {
        number: check_score(name, metric, value, always=always) for number, value in zip(answered, given, strict=True)
    }


def _of_failed(metric: Metric, example: dspy.Example, prediction: dspy.Prediction) -> float:
    """NaN if a metric does not apply to the example of a failed call; else 0."""
    try:
        return math.nan if math.isnan(float(metric(example, prediction))) else 0.0
    except Exception:  # it needs a field that an empty prediction lacks
        return 0.0
