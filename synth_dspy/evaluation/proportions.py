"""The interval of a share of yes among yes and no, also where the answers come in groups that are alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from synth_dspy.evaluation.stats import LEVEL

_Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its 95 % interval; None without answers.

    Attributes:
        share: of yes.
        n: answers.
        groups: that they come from; n where each is a group of its own.
    """

    share: float | None
    low: float | None
    high: float | None
    n: int
    groups: int

    @property
    def method(self) -> str:
        """How the interval was made."""
        return "Wilson" if self.groups == self.n else "Wilson on the effective sample size, cluster-robust"


def proportion(values: Sequence[bool], groups: Sequence[Hashable] | None = None) -> Proportion:
    """A share with Wilson's interval (Wilson 1927), which holds near 0 and 1 and for few answers.

    Answers of one group are alike, so n of them say less than n answers. Where groups have several, n is divided by the
    design effect, the cluster-robust variance over the binomial one (at least 1), and by the squared ratio of Student's
    t on groups - 1 degrees of freedom to the normal quantile (Korn & Graubard 1998, "Confidence intervals for
    proportions with small expected number of positive counts estimated from survey data"; with Wilson's interval in
    Dean & Pagano 2015, "Evaluating confidence interval methods for binomial proportions in clustered surveys"). Where
    all answers are the same, their variance says nothing, and each group counts as one answer.

    Args:
        values: yes or no, shape (n,).
        groups: the group of each, shape (n,); None: each is its own.
    """
    n = len(values)
    sizes = Counter(range(n) if groups is None else groups)
    if not n:
        return Proportion(None, None, None, 0, 0)
    share = sum(values) / n
    effective = float(n)
    if len(sizes) < n:
        effective = _effective(values, [] if groups is None else groups, sizes, share)
    center, spread = share + _Z**2 / (2 * effective), share * (1 - share) / effective + (_Z / (2 * effective)) ** 2
    low, high = ((center + sign * _Z * math.sqrt(spread)) / (1 + _Z**2 / effective) for sign in (-1, 1))
    return Proportion(share, max(0.0, low), min(1.0, high), n, len(sizes))


def _effective(values: Sequence[bool], groups: Sequence[Hashable], sizes: Counter[Hashable], share: float) -> float:
    """How many independent answers the grouped ones are worth."""
    n, count = len(values), len(sizes)
    if count == 1 or share in (0.0, 1.0):
        return float(count)
    from scipy.stats import t

    yes = Counter(group for group, value in zip(groups, values, strict=True) if value)
    variance = count / (count - 1) * sum((yes[group] - share * size) ** 2 for group, size in sizes.items()) / n**2
    effect = max(1.0, variance * n / (share * (1 - share)))
    return float(max(n / effect * (_Z / t.ppf(0.5 + LEVEL / 2, count - 1)) ** 2, 1.0))
