"""Statistics of scores on a sample of items: intervals, paired tests, corrections, power.

Every function is deterministic: random resampling takes a fixed seed, and the data are put in a canonical order
first. Scores lie in [0, 1] (paired differences in [-1, 1]).

Items that share a document are correlated, so with at least `MIN_GROUPS` groups, groups are resampled, flipped and
counted (cluster bootstrap, Davison & Hinkley 1997, section 3.8; for evaluations of language
models: Miller 2024, "Adding Error Bars to Evals"). With fewer groups that is unreliable (Cameron, Gelbach & Miller
2008), so single items are used and the caller says so.

Cross-fitting is for few groups, and every group counts: with `few_groups=True` the group is the unit even where there
are fewer than `MIN_GROUPS`. Intervals and tests then are Student's t with the delete-one-group jackknife's standard
error (CV3), which keeps its level with few and unequal groups better than others do (MacKinnon, Nielsen & Webb 2023,
"Fast and reliable jackknife and bootstrap methods for cluster-robust inference"). They speak of the mean score of the
programs that were made in the folds, over questions about new groups; for that, the items' scores may be treated as if
one program had given them, where an arm's programs differ little (Bayle et al. 2020, "Cross-validation confidence
intervals for test error"). What another training on other data would score is not in them: no estimate from the folds
alone is unbiased for it (Bengio & Grandvalet 2004), and nested folds (Bates, Hastie & Tibshirani 2023,
"Cross-validation: what does it estimate and how well does it do it?") take many times the work.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Unit = Literal["groups", "items"]

MIN_GROUPS = 10
FEW = 10
"""With fewer items, their spread is too little evidence for an interval of a score."""
RESAMPLES = 10_000
LEVEL = 0.95
POWER = 0.80
NOTHING = 2.0
"""The smallest detectable difference if not even the largest one would be detected."""
_FEW_PAIRS = 30  # with fewer items the power of the test of 0/1 scores is enumerated
_EXACT_UP_TO = 14  # sign patterns are enumerated up to 2**14; beyond that they are sampled
_CHUNK = 1_000_000  # numbers held at once while resampling (8 MB)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval. `units` is how many `unit`s were resampled; without items all is None or 0."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    units: int = 0
    unit: Unit = "items"


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Arm minus baseline on the items that both answered.

    Attributes:
        difference: mean paired difference with its interval.
        p: two-sided p value of the paired sign-flip test; None without items.
        relative_percent: 100 * (arm - baseline) / baseline; None if the baseline is 0.
        smallest_detectable: absolute difference detected with 80 % power; None if the differences do not vary, and
            `NOTHING` if so few items can detect none.
    """

    difference: Estimate
    p: float | None
    relative_percent: float | None
    smallest_detectable: float | None


def estimate(
    scores: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    resamples: int = RESAMPLES,
    seed: int = 0,
    few_groups: bool = False,
    level: float = LEVEL,
) -> Estimate:
    """Mean of `scores` with a 95 % interval, or one of another level.

    The interval is the bias-corrected and accelerated bootstrap (BCa; Efron 1987; Efron & Tibshirani 1993, chapter
    14) of the mean over items, its tail levels widened from normal to Student's t for small samples (Hesterberg 2015,
    "What Teachers Should Know About the Bootstrap", section 5.3), because plain bootstrap intervals are too narrow
    there. If all units score the same, resampling shows no spread; the interval is then the exact
    (Clopper & Pearson 1934) bound on the share of units that could have scored anything else within `bounds`. If groups
    are all alike although their items differ, items are resampled.

    Of fewer than `FEW` items that all score 0 or 1 the interval is Clopper and Pearson's exact one of a share: the
    bootstrap has next to nothing to draw from, and its ends jump from one possible mean to another with the seed.

    Three scores that are nearly equal are as little evidence as three equal ones. For fewer than `FEW` other scores
    (but not for paired differences, whose test is exact) the interval is therefore never narrower than that bound:
    unobserved scores may still be as large a share of all items (Hanley & Lippman-Hand 1983, "If Nothing Goes Wrong, Is
    Everything All Right?", for 0/1 scores). Of three scores from Beta(8, 2), BCa alone covers the mean 78 times in 100.

    Args:
        scores: one per item, shape (n,).
        groups: the group of each item, shape (n,); None: items are independent.
        bounds: smallest and largest possible score.
        resamples: bootstrap samples.
        seed: for the resampling.
        few_groups: groups are the units even if there are fewer than `MIN_GROUPS`; see the module.
        level: probability that the interval holds the mean.
    """
    values, labels = _checked(scores, groups)
    if values.size == 0:
        return Estimate(None, None, None, 0)
    sums, counts, unit = _units(values, labels, few_groups)
    mean, units = float(sums.sum() / counts.sum()), len(sums)
    if np.ptp(values) >= 1e-12 > np.ptp(sums - mean * counts):
        return estimate(scores, None, bounds=bounds, resamples=resamples, seed=seed, level=level)
    few = values.size < FEW and bounds == (0.0, 1.0)
    if few and unit == "items" and np.isin(values, bounds).all():
        return Estimate(mean, *_exact(int(values.sum()), units, level), units, units)
    low, high = _interval(sums, counts, unit, bounds, few, resamples, seed, level)
    return Estimate(mean, low, high, values.size, units, unit)


def ratio(
    above: Sequence[float],
    below: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    few_groups: bool = False,
) -> Estimate:
    """The sum of `above` over the sum of `below`, in [0, 1], with an interval as for `estimate`.

    For scores that are not means over items, such as precision, recall and F1: F1 is 2 true positives over predicted
    positives plus actual positives. `n` is the number of items with a non-zero `below`; the estimate is None without
    any.

    Args:
        above: numerator of each item, shape (n,).
        below: denominator of each item, shape (n,).
        groups: as for `estimate`.
        seed: for the resampling.
        few_groups: as for `estimate`.
    """
    numbers, labels = _checked(above, groups)
    whole, _ = _checked(below, groups)
    n = int(np.count_nonzero(whole))
    if n == 0:
        return Estimate(None, None, None, 0)
    (sums, counts), unit = _summed(labels, numbers, whole, few_groups=few_groups)
    order = np.lexsort((counts, sums))
    there = counts[order] > 0
    sums, counts = sums[order][there], counts[order][there]
    share, units = float(sums.sum() / counts.sum()), len(sums)
    low, high = _interval(sums, counts, unit, (0.0, 1.0), n < FEW, RESAMPLES, seed)
    return Estimate(share, low, high, n, units, unit)


def macro_f1(
    answers: Sequence[str], labels: Sequence[str], groups: Sequence[Hashable] | None = None, *, seed: int = 0
) -> Estimate:
    """The mean of the classes' F1 scores, with an interval as for `estimate`.

    The classes are the labels of the items, so that every arm's mean is over the same ones; any other answer counts
    against the class of its item. In a bootstrap sample without some class, the mean is over the others.

    Args:
        answers: the answer for each item, a label or anything else; shape (n,).
        labels: the right label of each item, shape (n,).
        groups: as for `estimate`.
        seed: for the resampling.
    """
    if len(answers) != len(labels):
        raise ValueError(f"an answer per item is needed: {len(answers)} answers for {len(labels)} items")
    if not labels:
        return Estimate(None, None, None, 0)
    classes = np.asarray(sorted(set(labels)))
    answered, right = (np.asarray(values)[:, None] == classes for values in (answers, labels))
    columns = np.hstack([answered & right, answered, right]).astype(np.float64)
    _, owners = _checked([0.0] * len(labels), groups)
    summed, unit = _summed(owners, *columns.T)
    counts = np.stack(summed, axis=1)  # (units, 3 * classes)
    if unit == "items":
        counts = counts[np.lexsort(counts.T)]

    def mean(totals: Array) -> Array:
        """Of totals, shape (samples, 3 * classes); shape (samples,)."""
        both, ours, theirs = np.split(totals, 3, axis=1)
        there = ours + theirs > 0
        f1 = np.divide(2 * both, ours + theirs, out=np.zeros_like(both), where=there)
        shares: Array = f1.sum(axis=1) / there.sum(axis=1)
        return shares

    units, total = len(counts), counts.sum(axis=0, keepdims=True)
    value = float(mean(total)[0])
    low, high = unseen = _unseen(value, units, (0.0, 1.0))
    boot = np.concatenate([mean(w @ counts) for w in _weights(units, RESAMPLES, seed)])
    if units > 1 and np.ptp(boot) >= 1e-12:
        low, high = _bca(value, boot, mean(total - counts))
        if len(labels) < FEW:
            low, high = min(low, unseen[0]), max(high, unseen[1])
    return Estimate(value, max(0.0, low), min(1.0, high), len(labels), units, unit)


def compare(
    scores: Sequence[float],
    baseline: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    tests: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
    few_groups: bool = False,
) -> PairedComparison:
    """Paired comparison: `scores[i]` and `baseline[i]` are two arms on the same item. Shapes (n,).

    `tests` is the number of comparisons that are corrected together: the more, the larger a difference must be.
    `few_groups` is as for `estimate`.
    """
    ours, labels = _checked(scores, groups)
    theirs, _ = _checked(baseline, groups)
    if ours.size != theirs.size:
        raise ValueError(f"a paired comparison needs the same items: {ours.size} scores against {theirs.size}")
    gains = ours - theirs
    difference = estimate(
        gains.tolist(), labels, bounds=(-1.0, 1.0), resamples=resamples, seed=seed, few_groups=few_groups
    )
    if not gains.size:
        return PairedComparison(difference, None, None, None)
    base = float(theirs.mean())
    return PairedComparison(
        difference,
        paired_p(gains.tolist(), labels, seed=seed, few_groups=few_groups),
        100 * float(gains.mean()) / base if base > 1e-12 else None,
        smallest_detectable(gains.tolist(), labels, tests=tests, few_groups=few_groups),
    )


def paired_p(
    differences: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    few_groups: bool = False,
) -> float | None:
    """Two-sided p value of a mean paired difference: by `sign_flip_p`, and by Student's t where groups are the units
    although they are few, of which sign flips could show nothing (of six groups no p value is below 1/32)."""
    values, labels = _checked(differences, groups)
    if few_groups and values.size:
        sums, counts, unit = _units(values, labels, few_groups)
        error = _jackknife_error(sums, counts)
        if unit == "groups" and len(sums) < MIN_GROUPS and error > 1e-12:
            from scipy.stats import t

            return float(2 * t.sf(abs(sums.sum() / counts.sum()) / error, len(sums) - 1))
    return sign_flip_p(differences, groups, seed=seed)


def sign_flip_p(
    differences: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    resamples: int = 2 * RESAMPLES,
    seed: int = 0,
) -> float | None:
    """Two-sided p value of the paired permutation test (Fisher 1935; for systems compared on the same items: Noreen
    1989; Dror et al. 2018).

    If the arms do not differ, swapping their answers within a unit (a group, or an item) changes nothing, so the sign
    of each unit's summed difference is arbitrary. For few units all signs are enumerated; for many they are sampled,
    and p is (b + 1) / (m + 1), which is never 0 (Phipson & Smyth 2010).
    """
    values, labels = _checked(differences, groups)
    if values.size == 0:
        return None
    sums, _, _ = _units(values, labels)
    sums = sums[np.abs(sums) > 1e-12]  # flipping a zero changes nothing
    if sums.size == 0:
        return 1.0
    threshold = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if sums.size <= _EXACT_UP_TO:
        patterns = np.arange(2**sums.size)[:, None] >> np.arange(sums.size) & 1
        return float(np.mean(np.abs((1 - 2 * patterns) @ sums) >= threshold))
    rng, extreme = np.random.default_rng(seed), 0
    for rows in _chunks(resamples, sums.size):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(rows, sums.size), dtype=np.int8)
        extreme += int(np.count_nonzero(np.abs(signs @ sums) >= threshold))
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p values (Holm 1979), in the same order; None (not tested) stays None.

    They bound the probability of any false claim among all comparisons, whatever their dependence.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(tested):
        running = max(running, min(1.0, (len(tested) - rank) * p))
        adjusted[i] = running
    return adjusted


def smallest_detectable(
    differences: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    tests: int = 1,
    few_groups: bool = False,
) -> float | None:
    """The true difference that a two-sided 5 % test at this sample size would detect with 80 % power.

    Minimum detectable effect (Bloom 1995): (t_0.975 + t_0.80) standard errors of the mean paired difference, with
    the cluster-robust standard error if groups are the units; with several tests, at the level of Holm's first
    step, 5 % divided by their number. None for fewer than two units or no variation.

    Sign flips show nothing unless enough units differ (6 at 5 %), and few observed differences say little about how
    many would. So if fewer units differ than would with 80 % power, it is at least the difference that this many units
    would make, each by as much as those observed and all in one direction. For fewer than `_FEW_PAIRS` items whose
    differences are all of one size, as those of 0/1 scores, the power is enumerated instead; see `_least_net_share`.
    """
    values, labels = _checked(differences, groups)
    if values.size < 2:
        return None
    sums, counts, unit = _units(values, labels, few_groups)
    units, sizes = len(sums), np.abs(sums[np.abs(sums) > 1e-12])
    if not sizes.size:
        return None
    flipped, least = unit == "items" or units >= MIN_GROUPS, 0.0
    if flipped:
        needed = math.ceil(1 + math.log2(tests / (1 - LEVEL)) - 1e-9)  # the least p of m units is 2 / 2**m
        if needed > units:
            return NOTHING
        if unit == "items" and units < _FEW_PAIRS and np.ptp(sizes) < 1e-9:
            return float(sizes[0]) * _least_net_share(len(sizes) / units, units, (1 - LEVEL) / tests)
        from scipy.stats import beta

        share = float(beta.ppf(POWER, needed, units - needed + 1))  # Clopper & Pearson 1934: that many of the units
        if len(sizes) < share * units:
            least = share * units * float(sizes.mean()) / float(counts.sum())
        residuals = sums - counts * (sums.sum() / counts.sum())
        error = math.sqrt(float(residuals @ residuals) * units / (units - 1)) / float(counts.sum())
    else:
        error = _jackknife_error(sums, counts)
    if error < 1e-12:
        return None
    from scipy.stats import t

    return max(least, float((t.ppf(1 - (1 - LEVEL) / (2 * tests), units - 1) + t.ppf(POWER, units - 1)) * error))


def _least_net_share(differing: float, pairs: int, level: float) -> float:
    """The smallest share of wins less losses that the exact sign test detects with 80 % power.

    The power is enumerated over how many pairs differ (exact unconditional power of McNemar's test; Duffy 1984,
    "Asymptotic and exact power for the McNemar test and its analogue with R controls per case"). As many are assumed to
    differ as were observed to (Connor 1987, "Sample size for testing differences in proportions for the paired-sample
    design"), or as many as the difference itself takes.

    Args:
        differing: observed share of the pairs that differ.
        pairs: how many there are.
        level: of the two-sided test; 2 / 2**pairs or more.
    """
    from scipy.stats import binom

    numbers = np.arange(pairs + 1)
    wins = binom.isf(level / 2, numbers, 0.5) + 1  # the fewest of them that are significant

    def power(net: float) -> float:
        differ = max(differing, net)
        chance = (differ + net) / (2 * differ)
        detected = binom.sf(wins - 1, numbers, chance) + binom.cdf(numbers - wins, numbers, chance)
        return float(binom.pmf(numbers, pairs, differ) @ detected)

    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def percentile(values: Sequence[float], q: float) -> float | None:
    """The q-th percentile, q in [0, 100], by linear interpolation (Hyndman & Fan 1996, type 7); None if empty."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), q)) if len(values) else None


def method(n: int, groups: int = MIN_GROUPS) -> str:
    """The method of `estimate` for `n` scores; `groups` is their number if groups are the units."""
    if groups < MIN_GROUPS:
        return "95 % Student's t with a delete-one-group jackknife"
    few = (
        f" (fewer than {FEW} items: of 0/1 scores Clopper and Pearson's exact interval, of others at least their bound "
        "on unobserved scores)"
    )
    return "95 % BCa bootstrap, t-expanded" + (few if n < FEW else "")


def comparison_method(groups: int) -> str:
    """The test of two arms; `groups` is their number if groups are the units."""
    if groups < MIN_GROUPS:
        return "paired t with the same standard error, two-sided"
    return "paired sign-flip permutation, two-sided"


def resampling_unit(groups: Sequence[Hashable] | None, few_groups: bool = False) -> Unit:
    """The unit of resampling: "groups" if there are at least `MIN_GROUPS` (3 with `few_groups`), else "items"."""
    least = 3 if few_groups else MIN_GROUPS
    return "groups" if groups is not None and len(set(groups)) >= least else "items"


def _checked(values: Sequence[float], groups: Sequence[Hashable] | None) -> tuple[Array, Sequence[Hashable] | None]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("scores must be finite numbers")
    if groups is not None and len(groups) != array.size:
        raise ValueError(f"one group per item is needed: {len(groups)} groups for {array.size} items")
    return array, groups


def _units(values: Array, groups: Sequence[Hashable] | None, few_groups: bool = False) -> tuple[Array, Array, Unit]:
    """Sum of scores and number of items of each unit, in the order of the units' names."""
    (sums, counts), unit = _summed(groups, values, np.ones_like(values), few_groups=few_groups)
    return (np.sort(sums) if unit == "items" else sums), counts, unit


def _summed(groups: Sequence[Hashable] | None, *columns: Array, few_groups: bool = False) -> tuple[list[Array], Unit]:
    """Each column summed over the units, in the order of the units' names; unchanged if items are the units."""
    if groups is None or resampling_unit(groups, few_groups) == "items":
        return list(columns), "items"
    _, index = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    return [np.bincount(index, weights=column).astype(np.float64) for column in columns], "groups"


def _interval(
    sums: Array,
    counts: Array,
    unit: Unit,
    bounds: tuple[float, float],
    few: bool,
    resamples: int,
    seed: int,
    level: float = LEVEL,
) -> tuple[float, float]:
    """The interval of the ratio of sums to counts, within the bounds.

    If all units are alike, and at least if they are few, it allows for an unobserved share of units that score anything
    within the bounds.
    """
    mean = float(sums.sum() / counts.sum())
    unseen = _unseen(mean, len(sums), bounds, level)
    if np.ptp(sums - mean * counts) < 1e-12:
        low, high = unseen
    else:
        if unit == "groups" and len(sums) < MIN_GROUPS:
            from scipy.stats import t

            half = float(t.ppf(0.5 + level / 2, len(sums) - 1)) * _jackknife_error(sums, counts)
            low, high = mean - half, mean + half
        else:
            boot = np.concatenate([(w @ sums) / (w @ counts) for w in _weights(len(sums), resamples, seed)])
            low, high = _bca(mean, boot, (sums.sum() - sums) / (counts.sum() - counts), level)
        if few:
            low, high = min(low, unseen[0]), max(high, unseen[1])
    return max(bounds[0], low), min(bounds[1], high)


def _exact(right: int, n: int, level: float) -> tuple[float, float]:
    """The exact interval of a share (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, right, n - right + 1)) if right else 0.0
    return low, float(beta.isf(tail, right + 1, n - right)) if right < n else 1.0


def _jackknife_error(sums: Array, counts: Array) -> float:
    """Standard error of the ratio of sums to counts, by leaving out one unit after another (CV3)."""
    units, mean = len(sums), sums.sum() / counts.sum()
    without = (sums.sum() - sums) / np.maximum(counts.sum() - counts, 1e-12)
    return math.sqrt((units - 1) / units * float(((without - mean) ** 2).sum()))


def _unseen(mean: float, units: int, bounds: tuple[float, float], level: float = LEVEL) -> tuple[float, float]:
    """The mean's range if the largest plausible unobserved share of units scored anything within the bounds."""
    other = 1 - ((1 - level) / 2) ** (1 / units)
    return mean - (mean - bounds[0]) * other, mean + (bounds[1] - mean) * other


def _bca(mean: float, boot: Array, jackknife: Array, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a statistic.

    Args:
        mean: the statistic of the sample.
        boot: the statistic of each bootstrap sample, shape (resamples,).
        jackknife: the statistic without each unit, shape (units,).
        level: of the interval.
    """
    from scipy.stats import norm, t

    units, resamples = len(jackknife), len(boot)
    # With 0/1 scores many samples equal the estimate: half of them count as below.
    below = np.mean(boot < mean - 1e-12) + 0.5 * np.mean(np.abs(boot - mean) <= 1e-12)
    bias = float(norm.ppf(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples)))
    leaning = jackknife.mean() - jackknife
    spread = float((leaning**2).sum())
    acceleration = float((leaning**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    tail = -math.sqrt(units / (units - 1)) * float(t.ppf(0.5 + level / 2, units - 1))
    low, high = (float(norm.cdf(bias + (bias + z) / max(1 - acceleration * (bias + z), 1e-6))) for z in (tail, -tail))
    return float(np.quantile(boot, low)), float(np.quantile(boot, high))


def _chunks(rows: int, width: int) -> Iterator[int]:
    step = max(1, _CHUNK // width)
    for start in range(0, rows, step):
        yield min(step, rows - start)


def _weights(units: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each unit is drawn in each bootstrap sample: chunks of shape (rows, units)."""
    for chunk, rows in enumerate(_chunks(resamples, units)):
        yield _weights_chunk(units, rows, seed, chunk)


@lru_cache(maxsize=8)  # every arm and metric of a run is resampled the same way
def _weights_chunk(units: int, rows: int, seed: int, chunk: int) -> Array:
    rng = np.random.default_rng([seed, chunk])
    return rng.multinomial(units, np.full(units, 1 / units), size=rows).astype(np.float64)
