"""Have the questions changed? A kernel two-sample test on embeddings, window by window, and which questions moved.

Each window of questions is compared with all questions before it by the maximum mean discrepancy (Gretton et al. 2012)
with permutations, the test that did best on shifts of high-dimensional inputs in Rabanser, Günnemann & Lipton 2019
(arXiv:1810.11953). Given all questions up to a window, regardless of their order, each split into "window" and
"before" is equally likely while nothing changes; so the windows' p-values are independent, and `PEvidence` puts them
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synth_dspy.loop.signals.sequential import RATE, PEvidence

Array = NDArray[np.float32]

WINDOW = 32
"""Questions that are compared with those before at a time."""
PERMUTATIONS = 999
_EXTREME = 20  # splits as extreme as the samples, after which no more are drawn
_CHUNK = 100  # splits that are drawn at a time
_MOST = 500  # earlier questions that a window is compared with, drawn evenly


@dataclass(slots=True)
class QuestionDrift:
    """Watches a stream of questions.

    Attributes:
        rate: probability that it ever raises an alarm although the questions do not change.
        window: questions in a window.
        seed: of the permutations.
    """

    rate: float = RATE
    window: int = WINDOW
    seed: int = 0
    evidence: PEvidence = field(default_factory=PEvidence)
    alarm: bool = False
    _before: list[Array] = field(default_factory=list)
    _pending: list[Array] = field(default_factory=list)

    def add(self, vectors: Array) -> bool:
        """Take in the next questions.

        Args:
            vectors: their embeddings, shape (n, d), unit length.

        Returns:
            Whether the alarm is raised; once raised, it stays.
        """
        for vector in np.asarray(vectors, dtype=np.float32):
            self._pending.append(vector)
            if len(self._pending) == self.window:
                self._compare()
        return self.alarm

    def _compare(self) -> None:
        if self._before:
            draws = np.random.default_rng([self.seed, self.evidence.seen])
            before = np.stack(self._before)
            if len(before) > _MOST:
                before = before[draws.choice(len(before), _MOST, replace=False)]
            p = mmd_p(before, np.stack(self._pending), seed=int(draws.integers(2**31)))
            self.alarm |= self.evidence.update(p) >= 1 / self.rate
        self._before += self._pending
        self._pending = []


def mmd_p(before: Array, after: Array, *, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """p-value of the hypothesis that two samples come from one distribution.

    Splits are drawn until some are as extreme as the samples themselves, which is soon the case while nothing changes
    (Besag & Clifford 1991, "Sequential Monte Carlo p-values").

    Args:
        before: shape (n, d).
        after: shape (m, d).
        permutations: how often the pooled rows are split at random, at most.
        seed: of the splits.
    """
    rows = np.concatenate([before, after])
    n, m = len(before), len(after)
    squared = np.maximum(
        (rows**2).sum(1)[:, None] + (rows**2).sum(1)[None, :] - 2 * rows @ rows.T, 0
    )  # distances, shape (n + m, n + m)
    kernel = np.exp(-squared / (float(np.median(squared)) or 1.0))
    totals = kernel.sum(1)
    whole = float(totals.sum())

    def statistics(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """Of windows of the rows `chosen`, shape (splits, m)."""
        within = kernel[chosen[:, :, None], chosen[:, None, :]].sum((1, 2), dtype=np.float64)
        across = totals[chosen].sum(1, dtype=np.float64) - within
        return np.asarray(within / m**2 + (whole - within - 2 * across) / n**2 - 2 * across / (n * m))

    ours = float(statistics(np.arange(n, n + m)[None])[0]) - 1e-6
    draws, extreme, done = np.random.default_rng(seed), 0, 0
    while done < permutations:
        rows_now = min(_CHUNK, permutations - done)
        splits = draws.random((rows_now, n + m), dtype=np.float32).argpartition(m, 1)[:, :m]
        reached = np.flatnonzero(statistics(splits) >= ours)
        if extreme + reached.size >= _EXTREME:
            return _EXTREME / (done + int(reached[_EXTREME - extreme - 1]) + 1)
        extreme, done = extreme + reached.size, done + rows_now
    return (extreme + 1) / (permutations + 1)


def most_shifted(before: Array, after: Array, questions: Sequence[str], most: int = 5) -> list[str]:
    """The questions of a window that are least like those before: by a linear classifier of "before" against "after".

    Args:
        before: embeddings, shape (n, d).
        after: the window's embeddings, shape (m, d).
        questions: the window's, m of them.
        most: how many to name.
    """
    centre = before.mean(0)
    spread = np.cov(before - centre, rowvar=False) + np.eye(before.shape[1]) * 1e-2
    direction = np.linalg.solve(spread, after.mean(0) - centre)
    order = np.argsort(-((after - centre) @ direction), kind="stable")
    return [questions[place] for place in order[:most]]
