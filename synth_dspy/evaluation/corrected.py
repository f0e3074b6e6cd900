"""What a judge's mistakes do to a share of right answers, and how to allow for them.

A judge calls some right answers wrong and some wrong answers right. Where its sensitivity and specificity were measured
on answers that people graded, the share that it calls right can be corrected (Rogan & Gladen 1978, "Estimating
prevalence from the results of a screening test"), and the interval then has two sources: which items were held out, and
which answers people happened to grade (Lang & Reiczigel 2014, "Confidence limits for prevalence of disease adjusted for
estimated sensitivity and specificity"). Where people labelled some of the very items that were judged, nothing needs to
be assumed about the judge at all: prediction-powered inference (Angelopoulos et al. 2023, arXiv:2301.09633) takes the
labels' mean, and the judge's scores of all items only make it more precise.

The correction assumes that the judge is as often mistaken here as it was on the graded answers, and equally often for
every arm. Prediction-powered inference assumes only that the labelled items were drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.agreement import Agreement
from synth_dspy.evaluation.stats import LEVEL, Estimate

Array = NDArray[np.float64]

_DRAWS = 10_000
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def rogan_gladen(
    verdicts: Sequence[float],
    agreement: Agreement,
    groups: Sequence[Hashable] | None = None,
    *,
    settled: Sequence[bool] | None = None,
    seed: int = 0,
    few_groups: bool = False,
) -> Estimate:
    """The share of right answers, corrected for the judge's mistakes, with a 95 % interval.

    Of the answers that the judge decided, (share called right + specificity - 1) / (sensitivity + specificity - 1).
    The estimate is clipped to [0, 1], and so is the interval around it, which therefore has a width even where fewer
    answers are called right than mistakes alone should be. The interval joins two: that of the items, at the measured
    sensitivity and specificity (`stats.estimate`, which resamples groups), and that of these two, drawn from their
    Jeffreys posteriors, as a plain bootstrap of counts such as 20 of 20 shows no spread. They are independent errors of
    one sum, so their distances from the estimate add as squares (MOVER; Zou & Donner 2008, "Construction of confidence
    limits about effect measures"). It is never narrower than the interval of the verdicts as they are.

    Args:
        verdicts: 1 where an answer is called right, else 0; shape (n,).
        agreement: the judge's with people.
        groups: as for `stats.estimate`, shape (n,).
        settled: whether a verdict needs no judge and is beyond doubt, as for an abstention; shape (n,). None: none is.
        seed: of the resampling.
        few_groups: as for `stats.estimate`.

    Returns:
        The estimate. Without items it is empty; where the judge is not shown to be better than chance the interval is
        [0, 1], and the mean None where it is measured to be no better.
    """
    raw = stats.estimate(verdicts, groups, seed=seed, few_groups=few_groups)
    return _corrected(_parts(verdicts, settled), raw, agreement, groups, (0.0, 1.0), seed, few_groups)


def rogan_gladen_difference(
    verdicts: Sequence[float],
    others: Sequence[float],
    agreement: Agreement,
    groups: Sequence[Hashable] | None = None,
    *,
    settled: Sequence[bool] | None = None,
    others_settled: Sequence[bool] | None = None,
    seed: int = 0,
    few_groups: bool = False,
) -> Estimate:
    """The paired difference of two arms' shares of right answers, corrected as in `rogan_gladen` for both alike.

    Where the judge decided every answer, this is the difference of the verdicts divided by (sensitivity + specificity
    - 1). Where one arm abstains and the other answers it is not: a wrong answer may be called right, a wrong
    abstention never is.

    Args:
        verdicts: of one arm, shape (n,).
        others: of the other arm on the same items, shape (n,).
        agreement: the judge's with people, on answers of either arm.
        groups: as for `stats.estimate`, shape (n,).
        settled: as for `rogan_gladen`, of the one arm.
        others_settled: of the other.
        seed: of the resampling.
        few_groups: as for `stats.estimate`.
    """
    gains = np.asarray(verdicts, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    raw = stats.estimate(gains.tolist(), groups, bounds=(-1.0, 1.0), seed=seed, few_groups=few_groups)
    parts = _parts(verdicts, settled) - _parts(others, others_settled)
    return _corrected(parts, raw, agreement, groups, (-1.0, 1.0), seed, few_groups)


def prediction_powered_mean(
    labels: Sequence[float],
    scores_on_labelled: Sequence[float],
    scores_on_all: Sequence[float],
    groups_of_labelled: Sequence[Hashable] | None = None,
    groups_of_all: Sequence[Hashable] | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = LEVEL,
) -> Estimate:
    """The mean label of all items, of which people labelled some at random and a judge scored all; with an interval.

    The labels' mean, plus a share of what the judge says the other items differ by. The share is the one of least
    variance, within [0, 1] (PPI++, Angelopoulos, Duchi & Zrnic 2023, arXiv:2311.01453): a judge that says nothing about
    the labels is given no weight. The interval is Student's t with the variance of the sum, clustered by group where
    there are enough groups (`stats.MIN_GROUPS`).

    Args:
        labels: of people, shape (n,).
        scores_on_labelled: the judge's of these items, shape (n,).
        scores_on_all: the judge's of all items, the labelled ones among them; shape (N,), N >= n.
        groups_of_labelled: shape (n,); None: items are independent.
        groups_of_all: shape (N,).
        bounds: smallest and largest possible label.
        level: of the interval.
    """
    given, ours, every = (np.asarray(each, dtype=np.float64) for each in (labels, scores_on_labelled, scores_on_all))
    n, others = given.size, every.size - given.size
    if ours.size != n or others < 0:
        raise ValueError(f"scores are needed of the {n} labelled items and of all: {ours.size}, {every.size}")
    if n < 2 or others == 0 or np.ptp(given) < 1e-12 or np.ptp(ours) < 1e-12:
        return stats.estimate(given.tolist(), groups_of_labelled, bounds=bounds, level=level)
    variance = float(every.var(ddof=1))
    covariance = float(np.cov(given, ours)[0, 1])
    share = min(max(covariance / ((1 + n / others) * variance), 0.0), 1.0)
    rest = (every.sum() - ours.sum()) / others
    mean = float(given.mean() + share * (rest - ours.mean()))
    residuals = given - share * ours
    residuals -= residuals.mean()
    clustered = groups_of_all is not None and stats.resampling_unit(groups_of_all) == "groups"
    if clustered and groups_of_labelled is not None and groups_of_all is not None:
        names = {name: i for i, name in enumerate(sorted({str(g) for g in (*groups_of_all, *groups_of_labelled)}))}
        labelled, whole = (np.array([names[str(g)] for g in each]) for each in (groups_of_labelled, groups_of_all))
        size = len(names)
        beyond = np.bincount(whole, every - rest, size) - np.bincount(labelled, ours - rest, size)
        influence = np.bincount(labelled, residuals, size) / n + share * beyond / others
        units = int(np.unique(labelled).size)
        error = math.sqrt(float(influence @ influence) * size / (size - 1))
    else:
        units = n
        error = math.sqrt(float(residuals @ residuals) / (n - 1) / n + share**2 * variance / others)
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, max(units - 1, 1))) * error
    low, high = (min(max(end, bounds[0]), bounds[1]) for end in (mean - half, mean + half))
    return Estimate(
        min(max(mean, bounds[0]), bounds[1]), low, high, every.size, units, "groups" if clustered else "items"
    )


def _parts(verdicts: Sequence[float], settled: Sequence[bool] | None) -> Array:
    """Of each item: right beyond doubt, called right by the judge, decided by the judge; shape (n, 3)."""
    values = np.asarray(verdicts, dtype=np.float64)
    sure = np.zeros(values.shape) if settled is None else np.asarray(settled, dtype=np.float64)
    return np.stack([values * sure, values * (1 - sure), 1 - sure], axis=1)


def _corrected(
    parts: Array,
    raw: Estimate,
    agreement: Agreement,
    groups: Sequence[Hashable] | None,
    bounds: tuple[float, float],
    seed: int,
    few_groups: bool,
) -> Estimate:
    """The mean of the corrected parts with its interval; see `rogan_gladen`."""
    if raw.mean is None or raw.low is None or raw.high is None:
        return raw
    beyond_chance = agreement.sensitivity + agreement.specificity - 1
    if beyond_chance <= 0:
        return Estimate(None, *bounds, raw.n, raw.units, raw.unit)
    weights = np.array([1.0, 1 / beyond_chance, (agreement.specificity - 1) / beyond_chance])
    values = parts @ weights
    span = (bounds[1] - bounds[0]) / beyond_chance
    reach = (values.min() - span, values.max() + span)
    items = stats.estimate(values.tolist(), groups, bounds=reach, seed=seed, few_groups=few_groups)
    mean, low, high = (float(each) for each in (items.mean or 0.0, items.low or 0.0, items.high or 0.0))
    drawn_low, drawn_high = _of_agreement(parts.mean(axis=0), agreement, seed)
    below = max(math.hypot(mean - low, max(mean - drawn_low, 0.0)), raw.mean - raw.low)
    above = max(math.hypot(high - mean, max(drawn_high - mean, 0.0)), raw.high - raw.mean)
    mean = min(max(mean, bounds[0]), bounds[1])
    low, high = max(mean - below, bounds[0]), min(mean + above, bounds[1])
    return Estimate(mean, low, high, items.n, items.units, items.unit)


def _of_agreement(means: Array, agreement: Agreement, seed: int) -> tuple[float, float]:
    """The interval of the corrected mean where only the graded answers are a sample, and the items are as they are."""
    rng = np.random.default_rng([seed, agreement.n_right, agreement.n_wrong])

    def draw(share: float, n: int) -> Array:
        return rng.beta(share * n + 0.5, (1 - share) * n + 0.5, _DRAWS)

    sensitivity = draw(agreement.sensitivity, agreement.n_right)
    specificity = draw(agreement.specificity, agreement.n_wrong)
    beyond_chance = sensitivity + specificity - 1
    if np.quantile(beyond_chance, _TAILS[0]) <= 0:
        return -math.inf, math.inf
    drawn = means[0] + (means[1] + (specificity - 1) * means[2]) / beyond_chance
    low, high = np.quantile(drawn, _TAILS)
    return float(low), float(high)
