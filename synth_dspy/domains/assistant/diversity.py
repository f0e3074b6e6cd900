"""Measures the diversity of questions: distance in meaning, near-duplicates, and coverage of topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synth_dspy.core.protocols import Embed

NEAR = 0.92
"""Cosine similarity from which on two questions count as duplicates; the same value as in `NearDuplicate`."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """Diversity of a set of questions.

    Attributes:
        n: number of questions.
        spread: mean cosine distance of pairs, in [0, 2]; 0.0 for fewer than two questions.
        nearest: mean cosine distance of a question to its nearest neighbour.
        near_duplicates: share of the questions that nearly repeat an earlier one.
        coverage: share of the expected groups with at least one question.
        groups: number of questions of each group, including groups without any.
    """

    n: int
    spread: float
    nearest: float
    near_duplicates: float
    coverage: float
    groups: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """The figures as JSON, for reports."""
        return asdict(self)


def diversity(
    rows: Sequence[Mapping[str, Any]], embed: Embed, *, expected: Iterable[str] = (), by: str = "group"
) -> Diversity:
    """Measure the diversity of questions.

    Args:
        rows: rows with `question` and the field named by `by`.
        embed: from texts to unit vectors, shape (texts, dimension).
        expected: groups that should be covered; by default those of the rows.
        by: the field whose coverage is measured, such as the group or the category.
    """
    counts = Counter(str(row[by]) for row in rows)
    wanted = set(expected) or set(counts)
    groups = {name: counts[name] for name in sorted(wanted | set(counts))}
    coverage = sum(counts[name] > 0 for name in wanted) / len(wanted) if wanted else 0.0
    n = len(rows)
    if n < 2:
        return Diversity(n, 0.0, 0.0, 0.0, coverage, groups)
    vectors = embed([str(row["question"]) for row in rows])
    cosine = (vectors @ vectors.T).astype(np.float64)
    spread = 1 - (cosine.sum() - np.trace(cosine)) / (n * (n - 1))
    earlier = np.tril(cosine, -1).max(axis=1)
    np.fill_diagonal(cosine, -1.0)
    return Diversity(
        n=n,
        spread=float(spread),
        nearest=float((1 - cosine.max(axis=1)).mean()),
        near_duplicates=float((earlier[1:] >= NEAR).sum() / n),
        coverage=coverage,
        groups=groups,
    )
