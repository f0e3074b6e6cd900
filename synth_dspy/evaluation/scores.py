"""Metrics declare what their scores are about, so that reports need not know scores by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from synth_dspy.core.protocols import Metric

About = Literal["answer", "retrieval", "abstention", "support", "part"]
"""What a metric scores.

answer: the whole answer of every item; tested in addition to the headline's score.
retrieval: the passages that the answer is based on.
abstention: whether an answer was given, for which reports have separate figures.
support: whether the passages support the answer; separates hallucinated answers from other wrong ones.
part: a part of the answer, or the answer of some items only; the default.
"""

LABELS = {"f1": "token F1", "exact": "exact match", "recall": "retrieval recall", "mrr": "MRR"}
"""Default display names of scores."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Score:
    """One of a task's scores.

    Attributes:
        name: its name in the task.
        about: what it is about.
        label: its name in reports.
    """

    name: str
    about: About = "part"
    label: str = ""


def scores(about: About, label: str = "") -> Callable[[Function], Function]:
    """Decorator that declares what a metric scores, and the score's name in reports.

    Args:
        about: see `About`.
        label: by default the score's name in the task.
    """

    def mark(metric: Function) -> Function:
        metric.__dict__.update(about=about, label=label)
        return metric

    return mark


def scores_of(metrics: Mapping[str, Metric]) -> tuple[Score, ...]:
    """The scores of a task's metrics, in the task's order."""
    return tuple(
        Score(name, getattr(metric, "about", "part"), getattr(metric, "label", "") or name.replace("_", " "))
        for name, metric in metrics.items()
    )


def label_of(name: str, labels: Mapping[str, str] | None = None) -> str:
    """A score's name in a sentence.

    Args:
        name: the score's.
        labels: a run's display names, where they do not follow from the scores' names.
    """
    return {**LABELS, **(labels or {})}.get(name) or name.replace("_", " ")
