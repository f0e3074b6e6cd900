"""Evidence of a change at an unknown time, which may be looked at after every observation.

A signal turns each new observation into an e-value: a number of at least 0 whose mean is at most 1 while nothing has
changed, whatever came before. The product of e-values from a change on is large if there was one. `ChangeEvidence` is
the mean of those products over all possible times of the change, so it is itself expected to be at most 1, and by
Ville's inequality the probability that it *ever* reaches `1 / rate` is at most `rate`, however often somebody looks
(e-detectors: Shin, Ramdas & Rinaldo 2023, arXiv:2203.03532; game-theoretic statistics: Ramdas et al. 2023,
arXiv:2210.01948).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

import numpy as np

RATE = 0.05
"""The probability that a signal ever raises an alarm although nothing changes, unless another is asked for."""
BLOCK = 32
"""Observations in a block, of signals that observe every request."""
_CERTAIN = 1e-12
_SLOPES = (0.4, 0.9)


@dataclass(slots=True)
class ChangeEvidence:
    """The mean, over the times at which things may have changed, of the product of the e-values since then.

    These times are the beginnings of blocks of observations. Block `k` has the weight 1 / (k (k + 1)): a change at
    block 100 needs evidence 10,100 times as strong as one at the beginning, which is a few observations more. Longer
    blocks make later changes easier to notice; one in the middle of a block counts from the next block on, or, in part,
    from its beginning.

    Attributes:
        block: observations in a block.
        value: the evidence now; 1 before any observation.
        seen: observations so far.
    """

    block: int = 1
    value: float = 1.0
    seen: int = 0
    _changed: float = 0.0

    def update(self, e: float) -> float:
        """Take in the next observation's e-value.

        Returns:
            The evidence now.

        Raises:
            ValueError: `e` is below 0 or not a number.
        """
        if not e >= 0:
            raise ValueError(f"An e-value is at least 0, not {e}.")
        k, place = divmod(self.seen, self.block)
        self.seen += 1
        began = 1 / ((k + 1) * (k + 2)) if place == 0 else 0.0
        self._changed = (self._changed + began) * e
        self.value = self._changed + 1 / (k + 2)
        return self.value


def e_value(p: float) -> float:
    """The e-value of a p-value: the mean over k in (0, 1) of k p^(k-1) (Vovk & Wang 2021, arXiv:1912.06116).

    Args:
        p: uniform on [0, 1], or larger, while nothing has changed.
    """
    p = max(p, _CERTAIN)
    if p > 1 - 1e-6:
        return 0.5
    return (1 - p + p * math.log(p)) / (p * math.log(p) ** 2)


@dataclass(slots=True)
class PEvidence:
    """Evidence of a change from p-values: the mean over a bet on very small ones and bets on rather small ones.

    After a change p-values may all be tiny, as of a new topic, or merely lean to the small side, as of a latency that
    grew by half.

    Attributes:
        block: as of `ChangeEvidence`.
    """

    block: int = 1
    _bets: list[ChangeEvidence] = field(init=False)

    def __post_init__(self) -> None:
        self._bets = [ChangeEvidence(self.block) for _ in range(1 + len(_SLOPES))]

    @property
    def value(self) -> float:
        """The evidence now; 1 before any p-value."""
        return sum(each.value for each in self._bets) / len(self._bets)

    @property
    def seen(self) -> int:
        """p-values so far."""
        return self._bets[0].seen

    def update(self, p: float) -> float:
        """Take in the next p-value, which is uniform on [0, 1], or larger, while nothing has changed.

        Returns:
            The evidence now.
        """
        for bet, e in zip(self._bets, (e_value(p), *(1 + slope * (1 - 2 * p) for slope in _SLOPES)), strict=True):
            bet.update(e)
        return self.value


@dataclass(slots=True)
class Ranks:
    """p-values of numbers that come one after another: how extreme each is among all that came before.

    While the numbers are exchangeable the p-values are independent and uniform, whatever the numbers' distribution
    (conformal prediction: Vovk, Gammerman & Shafer 2005; ties are broken at random).

    Attributes:
        high: whether large numbers are the extreme ones, else small ones.
        seed: of the breaking of ties.
    """

    high: bool
    seed: int = 0
    _sorted: list[float] = field(default_factory=list)
    _draws: np.random.Generator | None = None

    def p(self, value: float) -> float:
        """The next number's p-value, in (0, 1]."""
        if self._draws is None:
            self._draws = np.random.default_rng(self.seed)
        value = value if self.high else -value
        above = len(self._sorted) - bisect_right(self._sorted, value)
        equal = len(self._sorted) - bisect_left(self._sorted, value) - above + 1  # itself too
        insort(self._sorted, value)
        return float((above + self._draws.uniform() * equal) / len(self._sorted))
