"""Shares corrected for a judge's errors: what the intervals cover, in simulations of judges whose errors are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.agreement import Agreement
from synth_dspy.evaluation.corrected import prediction_powered_mean, rogan_gladen, rogan_gladen_difference

SIMULATIONS = 200
Rng = np.random.Generator


def agreement(sensitivity: float, specificity: float, n_right: int = 100, n_wrong: int = 100) -> Agreement:
    return Agreement("tests", "made-up answers", n_right, n_wrong, sensitivity, specificity, 0.7)


def measured(rng: Rng, sensitivity: float, specificity: float, n: int) -> Agreement:
    """What a sample of graded answers says of a judge."""
    return agreement(rng.binomial(n, sensitivity) / n, rng.binomial(n, specificity) / n, n, n)


def judged(rng: Rng, right: Any, sensitivity: float, specificity: float) -> Any:
    accepted = np.where(right, sensitivity, 1 - specificity)
    return (rng.random(right.size) < accepted).astype(float)


def covers(found: stats.Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def test_the_estimate_is_rogan_and_gladen_s() -> None:
    verdicts = [1.0] * 50 + [0.0] * 50
    found = rogan_gladen(verdicts, agreement(0.9, 0.8))
    assert found.mean == pytest.approx((0.5 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert found.n == 100
    assert rogan_gladen(verdicts, agreement(1.0, 1.0, 10**6, 10**6)).mean == pytest.approx(0.5)


def test_a_verdict_that_needs_no_judge_is_not_corrected() -> None:
    verdicts, settled = [1.0] * 30 + [0.0] * 30, [True] * 60
    raw = stats.estimate(verdicts)
    found = rogan_gladen(verdicts, agreement(0.8, 0.7), settled=settled)
    assert (found.mean, found.low, found.high) == pytest.approx((raw.mean, raw.low, raw.high))
    half = rogan_gladen(verdicts, agreement(0.8, 0.7), settled=[True] * 30 + [False] * 30)
    assert half.mean == pytest.approx(0.5 + 0.5 * (0.0 + 0.7 - 1) / 0.5)


def test_the_corrected_interval_covers_the_share_of_right_answers_and_that_of_the_verdicts_does_not() -> None:
    rng = np.random.default_rng(0)
    sensitivity, specificity, share = 0.92, 0.75, 0.3
    corrected = raw = 0
    for _ in range(SIMULATIONS):
        groups = np.repeat(np.arange(25), 6)
        right = rng.random(groups.size) < rng.beta(4 * share, 4 * (1 - share), 25)[groups]
        verdicts = judged(rng, right, sensitivity, specificity).tolist()
        graded = measured(rng, sensitivity, specificity, 80)
        corrected += covers(rogan_gladen(verdicts, graded, groups.tolist()), share)
        raw += covers(stats.estimate(verdicts, groups.tolist()), share)
    assert 0.91 <= corrected / SIMULATIONS <= 0.99
    assert raw / SIMULATIONS < 0.5


@pytest.mark.parametrize("n", [25, 10**5])
def test_the_fewer_answers_people_graded_the_wider_the_interval(n: int) -> None:
    verdicts = [1.0, 0.0] * 60
    found, certain = (rogan_gladen(verdicts, agreement(0.88, 0.88, m, m)) for m in (n, 10**9))
    assert found.mean == certain.mean
    width, least = (one.high - one.low for one in (found, certain) if one.high is not None and one.low is not None)
    assert width == pytest.approx(least, rel=0.01) if n > 1000 else width > 1.15 * least


def test_an_arm_that_abstains_is_not_worse_for_errors_that_only_answers_can_profit_from() -> None:
    """Both are right on three items in ten; where the one is wrong it mostly abstains, the other is often let pass."""
    rng = np.random.default_rng(1)
    corrected = raw = 0
    for _ in range(SIMULATIONS):
        verdicts, settled = [], []
        for abstains in (0.8, 0.0):
            right = rng.random(120) < 0.3
            silent = ~right & (rng.random(120) < abstains)
            verdicts.append(np.where(silent, 0.0, judged(rng, right, 0.9, 0.75)).tolist())
            settled.append(silent.tolist())
        graded = measured(rng, 0.9, 0.75, 80)
        found = rogan_gladen_difference(*verdicts, graded, settled=settled[0], others_settled=settled[1])
        corrected += covers(found, 0.0)
        gains = (np.array(verdicts[0]) - np.array(verdicts[1])).tolist()
        raw += covers(stats.estimate(gains, bounds=(-1.0, 1.0)), 0.0)
    assert 0.91 <= corrected / SIMULATIONS <= 0.99
    assert raw / SIMULATIONS < 0.6


def test_a_difference_of_verdicts_is_stretched_where_the_judge_decided_all() -> None:
    ours, theirs = [1.0] * 60 + [0.0] * 20, [1.0] * 40 + [0.0] * 40
    found = rogan_gladen_difference(ours, theirs, agreement(0.9, 0.85))
    assert found.mean == pytest.approx(0.25 / 0.75)


def test_what_lies_outside_is_clipped() -> None:
    found = rogan_gladen([0.0] * 50, agreement(0.9, 0.8))
    assert (found.mean, found.low) == (0.0, 0.0)
    assert 0 < (found.high or 0) < 0.2
    assert rogan_gladen([1.0] * 50, agreement(0.9, 0.8)).mean == 1.0


def test_a_judge_that_may_be_no_better_than_chance_says_nothing() -> None:
    verdicts = [1.0, 0.0] * 30
    found = rogan_gladen(verdicts, agreement(0.6, 0.6, 20, 20))
    assert (found.low, found.high) == (0.0, 1.0)
    assert rogan_gladen(verdicts, agreement(0.4, 0.5)).mean is None
    assert rogan_gladen([], agreement(0.9, 0.9)).mean is None


@pytest.mark.parametrize("clustered", [False, True])
def test_people_s_labels_of_some_items_and_scores_of_all_give_a_shorter_interval_that_covers(clustered: bool) -> None:
    rng = np.random.default_rng(2)
    covered, width, alone = 0, 0.0, 0.0
    for _ in range(SIMULATIONS):
        groups = np.repeat(np.arange(60), 5)
        labels = (rng.random(300) < (rng.beta(2, 2, 60)[groups] if clustered else 0.5)).astype(float)
        scores = np.clip(0.3 + 0.6 * labels + 0.15 * rng.normal(size=300), 0, 1)  # kind, and mostly right
        some = rng.choice(300, 60, replace=False)
        of_some, of_all = (groups[some].tolist(), groups.tolist()) if clustered else (None, None)
        found = prediction_powered_mean(labels[some], scores[some], scores, of_some, of_all)
        without = stats.estimate(labels[some].tolist(), of_some)
        covered += covers(found, 0.5)
        width += (found.high or 0) - (found.low or 0)
        alone += (without.high or 0) - (without.low or 0)
    assert 0.9 <= covered / SIMULATIONS <= 0.99
    assert width < 0.75 * alone


def test_a_judge_that_knows_nothing_is_given_no_weight() -> None:
    rng = np.random.default_rng(3)
    labels, scores = (rng.random(40) < 0.4).astype(float), rng.random(400)
    scores[:40] = 1 - labels  # worse than nothing on what people labelled
    found = prediction_powered_mean(labels, scores[:40], scores)
    assert found.mean == pytest.approx(labels.mean())


def test_labels_of_all_items_need_no_judge() -> None:
    labels, scores = [1.0, 0.0] * 20, [0.8, 0.3] * 20
    assert prediction_powered_mean(labels, scores, scores) == stats.estimate(labels)
    with pytest.raises(ValueError, match="of the 40 labelled items"):
        prediction_powered_mean(labels, scores, scores[:10])
