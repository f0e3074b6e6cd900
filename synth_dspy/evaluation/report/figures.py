"""From rows of predictions to figures: scores, means, intervals, and numbers that JSON can represent."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.facts import ReferenceKind
from synth_dspy.evaluation.records import EstimateRecord, Outcome, OutcomeRecord, Prediction

Cost = Literal["latency_s", "prompt_tokens", "completion_tokens", "cpu_s", "cost_usd"]

Labels = Mapping[str, str]
"""Display names of scores."""
Rows = Mapping[str, Sequence[Prediction]]
"""Predictions by arm."""
HEADLINE = "judged"
"""The headline score, which every answer has."""
RIGHT = 0.5
"""An answer judged at least this counts as right."""
TRIVIAL: tuple[ReferenceKind, ...] = ("silent", "frequent")
"""Kinds of reference rows that give the same answer to every question."""
PROMPTS: Literal["prompts"] = "prompts"
"""The kind of reference row that is the baseline under DSPy's own adapter."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
"""An object's address in memory, as in its `repr`: different in every run."""


def is_yes_no(row: Mapping[str, Any]) -> bool:
    """Whether the question asks for yes or no."""
    return str(row.get("answer_type") or "").lower().replace("/", "_").replace("-", "_") in {"yes_no", "yesno"}


def score(row: Prediction, name: str, *, whole: bool = False) -> float | None:
    """A score of a row, None where it does not apply.

    Args:
        row: an arm's answer.
        name: the score's.
        whole: whether the score rates whole answers: an answer that ended in an error then scores 0.
    """
    value = (row.get("scores") or {}).get(name)
    if value is None or not math.isfinite(value):
        return 0.0 if whole and row.get("error") else None
    return float(value)


def is_cross_fitted(rows: Iterable[Prediction]) -> bool:
    """Whether rows are answers of several folds' programs: then groups are the units, however few there are."""
    return any("fold" in row for row in rows)


def estimate(
    rows: Sequence[Prediction], name: str, seed: int, *, whole: bool = False, resamples: int = stats.RESAMPLES
) -> EstimateRecord:
    """A score's mean over rows with its 95 % interval; `whole` as for `score`."""
    pairs = [(value, r.get("group")) for r in rows if (value := score(r, name, whole=whole)) is not None]
    result = stats.estimate(
        [value for value, _ in pairs],
        [g for _, g in pairs],
        seed=seed,
        resamples=resamples,
        few_groups=is_cross_fitted(rows),
    )
    return {"mean": result.mean, "low": result.low, "high": result.high, "n": result.n}


def outcome_of(row: Prediction, support: str | None = None) -> Outcome:
    """The outcome of a question; a failed call is a wrong answer.

    Args:
        row: an arm's answer.
        support: the task's score of support by passages, if it has one.
    """
    if row.get("error"):
        return "wrong"
    right = (score(row, HEADLINE) or 0.0) >= RIGHT
    if row.get("abstained"):
        return "abstained_right" if right else "abstained_wrong"
    supported = None if support is None else score(row, support)
    if supported is not None and supported < RIGHT:
        return "right_unsupported" if right else "hallucinated"
    return "right" if right else "wrong"


def outcomes(rows: Sequence[Prediction], support: str | None = None) -> OutcomeRecord:
    """Counts of right and wrong answers, and of right and wrong abstentions; failed calls are wrong.

    Unsupported answers are among them, and counted as well where support was scored.
    """
    counts = Counter(outcome_of(row, support) for row in rows)
    result: OutcomeRecord = {
        "right": counts["right"] + counts["right_unsupported"],
        "wrong": counts["wrong"] + counts["hallucinated"],
        "abstained_right": counts["abstained_right"],
        "abstained_wrong": counts["abstained_wrong"],
    }
    if support is not None and any(score(row, support) is not None for row in rows):
        result["hallucinated"], result["right_unsupported"] = counts["hallucinated"], counts["right_unsupported"]
    return result


def mean(rows: Sequence[Prediction], key: Cost) -> float | None:
    """The mean of a field over the rows that have it."""
    values = [float(value) for row in rows if (value := row.get(key)) is not None]
    return math.fsum(values) / len(values) if values else None


def plain(value: Any) -> Any:
    """`value` as JSON data: floats rounded to 6 decimals, numpy scalars unwrapped, NaN and infinities as None.

    Addresses of objects ("<Provider object at 0x7f...>") are removed from texts: they differ between runs.
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, str):
        return _ADDRESS.sub("", value)
    if isinstance(value, float):
        return round(value, 6) + 0.0 if math.isfinite(value) else None  # + 0.0: no "-0.0"
    return value
