"""What a score is about, as its metric says: so that a report knows no score by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from synth_dspy.core.protocols import Metric

About = Literal["answer", "retrieval", "abstention", "support", "part"]
"""What a metric looks at.

answer: the whole answer, of which every item has one: it is tested beside the headline's score.
retrieval: the passages that the answer was made from.
abstention: whether an answer was given; reports have figures of their own for that.
support: whether the passages support the answer: it tells answers that are made up from others that are wrong.
part: a part of the answer, or an answer of some items only. Metrics that say nothing are of this kind.
"""

LABELS = {"f1": "token F1", "exact": "exact match", "recall": "retrieval recall", "mrr": "MRR"}
"""What reports call scores of these names, where a run says nothing else."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Score:
    """A score of a task's.

    Attributes:
        name: the task's name of it.
        about: what it looks at.
        label: what reports call it.
    """

    name: str
    about: About = "part"
    label: str = ""


def scores(about: About, label: str = "") -> Callable[[Function], Function]:
    """Say of a metric, as its decorator, what it looks at, and what reports call its score.

    Args:
        about: see `About`.
        label: by default the task's name of it.
    """

    def mark(metric: Function) -> Function:
        metric.__dict__.update(about=about, label=label)
        return metric

    return mark


def scores_of(metrics: Mapping[str, Metric]) -> tuple[Score, ...]:
    """The scores that a task's metrics give, in its order."""
    return tuple(
        Score(name, getattr(metric, "about", "part"), getattr(metric, "label", "") or name.replace("_", " "))
        for name, metric in metrics.items()
    )


def label_of(name: str, labels: Mapping[str, str] | None = None) -> str:
    """What a score is called in a sentence.

    Args:
        name: the score's.
        labels: what a run calls its scores, where that does not follow from their names.
    """
    return {**LABELS, **(labels or {})}.get(name) or name.replace("_", " ")
