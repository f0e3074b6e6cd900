"""Macro F1 and confusion matrix of each arm. Labels are compared as by the judge `Equality`, ignoring case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.records import ClassificationRecord, LabelRecord, Prediction


def classification(classes: Sequence[str], rows: Mapping[str, Sequence[Prediction]], seed: int) -> ClassificationRecord:
    """Macro F1 and confusion matrix of each arm or reference row that has answers.

    Args:
        classes: the labels, in the order of the task.
        rows: predictions by arm.
        seed: for the intervals.

    Returns:
        `classes`, and for each arm in `arms` its `macro_f1` (`mean`, `low`, `high`, `n`) and `matrix`, shape
        (classes, classes + 1): rows are right labels, columns answered ones, and the last column other answers.
    """
    return {"classes": list(classes), "arms": {name: _arm(classes, each, seed) for name, each in rows.items() if each}}


def _arm(classes: Sequence[str], rows: Sequence[Prediction], seed: int) -> LabelRecord:
    pairs = [(row, _label(row)) for row in rows]
    labelled = [(row, label) for row, label in pairs if label is not None]
    right = [label for _, label in labelled]
    answered = ["" if row.get("error") else str(row.get("prediction") or "").casefold() for row, _ in labelled]
    f1 = stats.macro_f1(answered, right, [row.get("group") for row, _ in labelled], seed=seed)
    places = {label.casefold(): i for i, label in enumerate(classes)}
    matrix = [[0] * (len(classes) + 1) for _ in classes]
    for label, answer in zip(right, answered, strict=True):
        if label in places:
            matrix[places[label]][places.get(answer, len(classes))] += 1
    return {"macro_f1": {"mean": f1.mean, "low": f1.low, "high": f1.high, "n": f1.n}, "matrix": matrix}


def _label(row: Prediction) -> str | None:
    """The right label of an item; of several, the answered one, else the first. None for an item without a label."""
    accepted = [str(reference).casefold() for reference in row["references"]]
    answer = str(row.get("prediction") or "").casefold()
    return answer if answer in accepted else next(iter(accepted), None)
