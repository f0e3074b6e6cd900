"""Intervals, tests, corrections and power, against known values and by simulation."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy.stats import ttest_rel

from synth_dspy.evaluation import stats


def test_holm_gives_the_values_of_the_textbook_example() -> None:
    # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") in R
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_counts_only_what_was_tested_and_never_exceeds_one() -> None:
    assert stats.holm([None, 0.02, 0.9, 0.8]) == [None, pytest.approx(0.06), 1.0, 1.0]
    assert stats.holm([]) == []


def _enumerated(differences: list[float]) -> float:
    observed = abs(sum(differences))
    flips = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
             for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    return sum(f >= observed - 1e-9 for f in flips) / len(flips)


@pytest.mark.parametrize(
    "differences", [[1, 1, 1, -1, 1, 1], [0.3, -0.1, 0.25, 0.4, 0.0, 0.1], [1.0], [1, 1, 1, 1, 1, 1, 1, 1]]
)
def test_sign_flip_equals_exact_enumeration(differences: list[float]) -> None:
    assert stats.sign_flip_p(differences) == pytest.approx(_enumerated(differences))


def test_sampled_sign_flips_agree_with_enumeration_and_with_the_t_test() -> None:
    rng = np.random.default_rng(5)
    ours = rng.normal(0.55, 0.2, 16)
    theirs = rng.normal(0.45, 0.2, 16)
    sampled = stats.sign_flip_p((ours - theirs).tolist())
    assert sampled == pytest.approx(_enumerated((ours - theirs).tolist()), abs=0.01)
    assert sampled == pytest.approx(ttest_rel(ours, theirs).pvalue, abs=0.03)


def test_sign_flips_are_by_group_where_there_are_enough() -> None:
    # 12 groups of 5: inside a group all items agree, so there are 12 observations and not 60.
    gains = np.repeat([1.0] * 9 + [-1.0] * 3, 5).tolist()
    groups = np.repeat([f"g{i:02d}" for i in range(12)], 5).tolist()
    assert stats.sign_flip_p(gains, groups) == pytest.approx(_enumerated([1.0] * 9 + [-1.0] * 3))
    assert (stats.sign_flip_p(gains) or 0) < 0.001


def test_sign_flip_of_nothing_and_of_no_difference() -> None:
    assert stats.sign_flip_p([]) is None
    assert stats.sign_flip_p([0.0] * 30) == 1.0


def test_sign_flip_keeps_its_level_under_the_null() -> None:
    rng = np.random.default_rng(0)
    p = [stats.sign_flip_p(rng.choice([-1.0, 0.0, 1.0], 30).tolist(), resamples=500) for _ in range(300)]
    assert np.mean([value < 0.05 for value in p if value is not None]) <= 0.08


@pytest.mark.parametrize(("share", "n"), [(0.1, 60), (0.5, 20), (0.9, 60)])
def test_the_interval_covers_the_truth(share: float, n: int) -> None:
    rng = np.random.default_rng(1)
    estimates = [stats.estimate((rng.random(n) < share).astype(float).tolist(), resamples=1000) for _ in range(200)]
    covered = np.mean([(e.low or 0) <= share <= (e.high or 0) for e in estimates])
    assert covered >= 0.93
    assert np.mean([(e.high or 0) - (e.low or 0) for e in estimates]) < 5.5 * np.sqrt(share * (1 - share) / n)


def test_the_interval_over_groups_covers_where_that_over_items_does_not() -> None:
    rng = np.random.default_rng(2)
    hits = {"groups": 0, "items": 0}
    for _ in range(200):
        chance, size = rng.beta(1.5, 3.5, 15), rng.integers(3, 9, 15)
        scores = (rng.random(size.sum()) < np.repeat(chance, size)).astype(float).tolist()
        groups = np.repeat(np.arange(15), size).tolist()
        for unit, labels in (("groups", groups), ("items", None)):
            e = stats.estimate(scores, labels, resamples=1000)
            assert e.unit == unit
            hits[unit] += (e.low or 0) <= 0.3 <= (e.high or 0)
    assert hits["groups"] >= 0.92 * 200
    assert hits["items"] < 0.91 * 200


def test_few_groups_fall_back_to_items() -> None:
    e = stats.estimate([0.0, 1.0] * 9, ["a"] * 9 + ["b"] * 9)
    assert (e.unit, e.units, e.n) == ("items", 18, 18)


def test_no_item_has_no_mean() -> None:
    assert stats.estimate([]) == stats.Estimate(None, None, None, 0)
    empty = stats.compare([], [])
    assert (empty.p, empty.relative_percent, empty.smallest_detectable) == (None, None, None)


def test_one_item_says_next_to_nothing() -> None:
    e = stats.estimate([1.0])
    assert (e.mean, e.low, e.high) == (1.0, pytest.approx(0.025), 1.0)
    assert stats.smallest_detectable([0.4]) is None


def test_equal_scores_get_the_clopper_pearson_bound() -> None:
    e = stats.estimate([0.0] * 10)
    assert (e.low, e.high) == (0.0, pytest.approx(0.3085, abs=1e-4))  # binom.test(0, 10) in R
    e = stats.estimate([0.5] * 10)
    assert 0.3 < (e.low or 0) < 0.5 < (e.high or 0) < 0.7


@pytest.mark.parametrize("near", [[0.93, 0.94, 0.95], [0.5, 0.5, 0.51], [1.0, 1.0, 0.999], [0.0, 0.001] * 4])
def test_few_scores_that_are_nearly_equal_say_no_more_than_equal_ones(near: list[float]) -> None:
    e, equal = stats.estimate(near), stats.estimate([float(np.mean(near))] * len(near))
    assert (e.low or 0) <= (equal.low or 0) + 1e-9
    assert (e.high or 0) >= (equal.high or 0) - 1e-9
    assert 0.0 <= (e.low or 0) < (e.high or 0) <= 1.0
    if len(near) == 3:
        assert (e.high or 0) - (e.low or 0) > 0.6


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(1, 8, 0.0032, 0.5265), (7, 8, 0.4735, 0.9968), (0, 8, 0.0, 0.3694), (2, 4, 0.0676, 0.9324), (4, 9, 0.137, 0.788)],
)
def test_few_0_1_scores_have_the_exact_interval_whatever_the_seed(right: int, n: int, low: float, high: float) -> None:
    """As by binom.test(1, 8) in R."""
    for seed, resamples in ((0, 10_000), (1, 2_000)):
        e = stats.estimate([1.0] * right + [0.0] * (n - right), seed=seed, resamples=resamples)
        assert (e.low, e.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize("n", [3, 5, 9])
def test_the_interval_of_few_scores_covers_the_truth(n: int) -> None:
    rng = np.random.default_rng(6)
    rare = [np.where(rng.random(n) < 0.1, 0.0, rng.uniform(0.94, 0.96, n)) for _ in range(100)]
    for truth, samples in ((0.8, [rng.beta(8, 2, n) for _ in range(100)]), (0.9 * 0.95, rare)):
        estimates = [stats.estimate(sample.tolist(), resamples=500) for sample in samples]
        assert np.mean([(e.low or 0) <= truth <= (e.high or 0) for e in estimates]) >= 0.95


def test_ten_scores_show_their_own_spread() -> None:
    ten = stats.estimate([0.93, 0.94, 0.95, 0.94, 0.93, 0.95, 0.94, 0.94, 0.93, 0.95])
    assert (ten.low, ten.high) == (pytest.approx(0.9345, abs=2e-3), pytest.approx(0.9455, abs=2e-3))


def test_a_ratio_of_few_items_is_no_surer_than_a_mean() -> None:
    few = stats.ratio([0.93, 0.94, 0.95], [1.0, 1.0, 1.0])
    assert (few.high or 0) - (few.low or 0) > 0.6


def test_the_interval_of_few_differences_stays_with_their_test() -> None:
    comparison = stats.compare([0.9, 0.8, 0.85, 0.95, 0.9, 0.8, 0.9], [0.1, 0.2, 0.15, 0.1, 0.2, 0.1, 0.1])
    assert (comparison.p or 1) < 0.05
    assert (comparison.difference.low or 0) > 0.5


def test_groups_that_agree_although_their_items_do_not() -> None:
    e = stats.estimate([0.0, 1.0] * 12, [i // 2 for i in range(24)])
    assert (e.low or 1) < 0.5 < (e.high or 0)


def test_results_do_not_depend_on_the_order_of_the_items() -> None:
    rng = np.random.default_rng(3)
    scores, groups = rng.random(40), np.repeat(np.arange(20), 2)
    order = rng.permutation(40)
    for labels in (groups, None):
        one = stats.estimate(scores.tolist(), None if labels is None else labels.tolist())
        two = stats.estimate(scores[order].tolist(), None if labels is None else labels[order].tolist())
        assert (one.low, one.high) == (pytest.approx(two.low, abs=1e-9), pytest.approx(two.high, abs=1e-9))


def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.3, 2000)
    n = 40
    least = stats.smallest_detectable(rng.choice(noise, n).tolist())
    assert least == pytest.approx(0.3 * 2.85 / np.sqrt(n), rel=0.25)
    truth = 0.3 * 2.85 / np.sqrt(n)
    significant = [ttest_rel(rng.normal(truth, 0.3, n), np.zeros(n)).pvalue < 0.05 for _ in range(500)]
    assert np.mean(significant) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(("wins", "losses", "ties"), [(1, 0, 7), (4, 4, 0), (3, 1, 16), (6, 5, 14)])
def test_the_smallest_detectable_difference_of_a_few_0_1_scores_is_that_of_their_test(
    wins: int, losses: int, ties: int
) -> None:
    """Of 8 items, 6 have to differ before sign flips show anything, however little those observed vary."""
    gains = [1.0] * wins + [-1.0] * losses + [0.0] * ties
    least = stats.smallest_detectable(gains)
    assert least is not None
    rng, differing = np.random.default_rng(7), (wins + losses) / len(gains)

    def power(truth: float) -> float:
        differ = max(differing, truth)
        chances = [(differ + truth) / 2, (differ - truth) / 2, 1 - differ]
        samples = rng.choice([1.0, -1.0, 0.0], size=(400, len(gains)), p=chances)
        counts = Counter((int((each > 0).sum()), int((each < 0).sum())) for each in samples)
        found = sum(
            n for (up, down), n in counts.items() if (stats.sign_flip_p([1.0] * up + [-1.0] * down) or 1.0) < 0.05
        )
        return found / len(samples)

    assert power(least) == pytest.approx(0.8, abs=0.07)
    assert power(0.7 * least) < 0.7
    assert least <= 1


def test_a_difference_that_few_items_show_is_not_taken_for_a_small_spread() -> None:
    """Of 40 items 6 have to differ, which 19 % of all do with 80 % power; so with partial credit and with groups."""
    share = stats.smallest_detectable([1.0] + [0.0] * 39)
    assert share == pytest.approx(0.19, abs=0.005)
    assert stats.smallest_detectable([0.5] + [0.0] * 39) == pytest.approx((share or 0) / 2)
    assert stats.smallest_detectable([0.5, 0.0] + [0.0] * 78, [i // 2 for i in range(80)]) == pytest.approx(
        (share or 0) / 4
    )


def test_too_few_items_for_any_p_value_can_show_nothing() -> None:
    """The sign-flip test's least p is 2 / 2**n: 0.0625 for five items, 0.031 for six."""
    five, six = [0.5, 0.4, 0.6, 0.5, 0.3], [0.5, 0.4, 0.6, 0.5, 0.3, 0.5]
    assert stats.sign_flip_p(five) == pytest.approx(0.0625)
    assert stats.smallest_detectable(five) == stats.NOTHING
    assert stats.smallest_detectable([1.0] * 3) == stats.NOTHING  # every item won: still three items
    assert stats.smallest_detectable([0.0] * 3) is None
    assert stats.sign_flip_p(six) == pytest.approx(0.03125)
    least = stats.smallest_detectable(six)
    assert least is not None
    assert least < 1
    assert stats.smallest_detectable(six, tests=2) == stats.NOTHING


def test_relative_improvement_over_nothing_is_undefined() -> None:
    assert stats.compare([1.0, 0.0], [0.0, 0.0]).relative_percent is None
    assert stats.compare([0.6, 0.6], [0.4, 0.4]).relative_percent == pytest.approx(50)


def test_percentiles() -> None:
    assert stats.percentile([1, 2, 3, 4, 5], 50) == 3
    assert stats.percentile([0, 10], 95) == pytest.approx(9.5)
    assert stats.percentile([], 50) is None


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        stats.estimate([float("nan")])
    with pytest.raises(ValueError, match="same items"):
        stats.compare([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="one group per item"):
        stats.estimate([1.0, 0.0], ["a"])
