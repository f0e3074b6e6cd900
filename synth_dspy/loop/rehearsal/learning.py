"""How much feedback a training needs: a learning curve for each training method.

For each method the feedback is one shuffled sequence, and each size takes its beginning, so a larger training has seen
all that a smaller one has. Each is trained from the base and scored on the same held-out items.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from synth_dspy.core.errors import SetupError
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.stats import Estimate

Record = TypeVar("Record")

SIZES = (8, 32, 128, 512)
METHODS = ("sft", "dpo", "orpo", "kto", "grpo")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training with some feedback came to.

    Attributes:
        scores: of the held-out items, in their order, in [0, 1].
        rows: that the feedback became; a method takes only some kinds of feedback.
        seconds: of the training.
    """

    scores: Sequence[float]
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a learning curve: the method, the records it was given, its gain over no training."""

    method: str
    records: int
    rows: int
    gain: Estimate
    seconds: float


def learning_curve(
    compile: Callable[[str, Sequence[Record]], Trained],
    records: Sequence[Record],
    groups: Sequence[Hashable],
    *,
    sizes: Sequence[int] = SIZES,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
) -> list[Point]:
    """Train with more and more feedback.

    Args:
        compile: trains by a method with some records, from the base, and scores the held-out items; by the method ""
            and no records, it scores the base. The records must not be about held-out items.
        records: of feedback.
        groups: of the held-out items, as for `stats.estimate`.
        sizes: how many records, ascending.
        methods: of training.
        seed: of the shuffling.

    Returns:
        A point for each method and size, the base's gain of 0 left out.

    Raises:
        SetupError: there are fewer records than the largest size, or a training did not score every held-out item.
    """
    if len(records) < max(sizes):
        raise SetupError(f"A learning curve up to {max(sizes)} records needs as many; there are {len(records)}.")
    order = np.random.default_rng(seed).permutation(len(records))
    base = _scores(compile("", []), groups)
    points = []
    for method in methods:
        for size in sizes:
            trained = compile(method, [records[i] for i in order[:size]])
            gains = [ours - theirs for ours, theirs in zip(_scores(trained, groups), base, strict=True)]
            gain = stats.estimate(gains, groups, bounds=(-1.0, 1.0))
            points.append(Point(method, size, trained.rows, gain, trained.seconds))
    return points


def _scores(trained: Trained, groups: Sequence[Hashable]) -> Sequence[float]:
    if len(trained.scores) != len(groups):
        raise SetupError(f"A training scored {len(trained.scores)} of {len(groups)} held-out items.")
    return trained.scores
