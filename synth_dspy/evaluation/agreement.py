"""Agreement: of raters with each other, of positions with choices, and of the reference judge with people.

For raters, units are items. Raters may have rated different items; what they chose is a label (Krippendorff's alpha).
The reference judge's agreement with graders was measured per domain on answers outside its fit, and ships with it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synth_dspy.evaluation.stats import LEVEL, sign_flip_p

Array = NDArray[np.float64]

RESAMPLES = 2_000
_CHUNK = 1_000_000  # numbers held at once while resampling (8 MB)


@dataclass(frozen=True, slots=True)
class RaterAgreement:
    """How far raters agree on labels.

    Attributes:
        alpha: Krippendorff's alpha, 1 for perfect agreement, 0 for chance; None if all labels are the same or no item
            has two.
        low: lower end of its 95 % interval, by resampling items; None if alpha is.
        high: upper end.
        percent: share of pairs of raters that agree, the mean over items; None if no item has two labels.
        items: items with two or more labels; others do not count.
        labels: labels on these items.
    """

    alpha: float | None
    low: float | None
    high: float | None
    percent: float | None
    items: int
    labels: int


def rater_agreement(
    units: Sequence[Sequence[Hashable]], *, resamples: int = RESAMPLES, seed: int = 0
) -> RaterAgreement:
    """Krippendorff's alpha for nominal data, with any number of raters and missing labels.

    alpha = 1 - D_o / D_e, observed over expected disagreement, from the matrix of coincidences (Krippendorff 2011,
    "Computing Krippendorff's Alpha-Reliability", section C). The interval is the percentile bootstrap over items.

    Args:
        units: the labels of each item, in any order.
        resamples: bootstrap samples.
        seed: of the resampling.
    """
    rated = [labels for labels in units if len(labels) > 1]
    if not rated:
        return RaterAgreement(None, None, None, None, 0, 0)
    values = sorted({label for labels in rated for label in labels}, key=repr)
    counts = np.array([[labels.count(value) for value in values] for labels in map(list, rated)], dtype=np.float64)
    sizes = counts.sum(axis=1)
    # Of each unit: pairs that disagree, each weighted 1 / (m - 1), and labels by value.
    disagreeing = (sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1)
    percent = float(np.mean((counts * (counts - 1)).sum(axis=1) / (sizes * (sizes - 1))))
    alpha = _alpha(np.ones((1, len(rated))), disagreeing, counts)[0]
    low: float | None = None
    high: float | None = None
    if np.isfinite(alpha) and len(rated) > 1:
        rng = np.random.default_rng(seed)
        share = np.full(len(rated), 1 / len(rated))
        step = max(1, _CHUNK // len(rated))
        chunks = [min(step, resamples - start) for start in range(0, resamples, step)]
        drawn = np.concatenate(
            [_alpha(rng.multinomial(len(rated), share, size=n).astype(np.float64), disagreeing, counts) for n in chunks]
        )
        # Alpha is undefined for a sample in which all labels are the same.
        drawn = np.where(np.isfinite(drawn), drawn, 1.0)
        low, high = (float(q) for q in np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return RaterAgreement(
        float(alpha) if np.isfinite(alpha) else None, low, high, percent, len(rated), int(sizes.sum())
    )


def _alpha(weights: Array, disagreeing: Array, counts: Array) -> Array:
    """Alpha of each row of weights, shape (samples, units); NaN where all labels are the same."""
    totals = weights @ counts
    n = totals.sum(axis=1)
    expected = n**2 - (totals**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        alphas: Array = np.where(expected > 0, 1 - (n - 1) * (weights @ disagreeing) / expected, np.nan)
    return alphas


def position_p(units: Sequence[Sequence[float]], *, resamples: int = 10_000, seed: int = 0) -> float | None:
    """The p value of a permutation test of whether an answer's position influences the choice; None without choices.

    The order of the answers to an item was drawn at random. If positions do not matter, any other order would have
    moved the choices with the answers, so the positions of each item's choices can be permuted (Fisher 1935). The
    statistic is the sum of squared deviations of the positions' totals from equal shares; p is (b + 1) / (m + 1)
    (Phipson & Smyth 2010). Votes of several raters on one item are permuted together, as they must be: they are not
    independent.

    Args:
        units: for each item how often each position was chosen, shape (items, positions).
        resamples: permutations drawn.
        seed: for the permutations.
    """
    chosen = np.asarray([unit for unit in units if sum(unit) > 0], dtype=np.float64)
    if chosen.size == 0:
        return None
    if chosen.shape[1] == 2:  # the same test, and quicker
        return sign_flip_p((chosen[:, 0] - chosen[:, 1]).tolist(), seed=seed)
    chosen = chosen - chosen.mean(axis=1, keepdims=True)  # an item with evenly spread choices does not contribute
    observed = float((chosen.sum(axis=0) ** 2).sum())
    rng, extreme = np.random.default_rng(seed), 0
    step = max(1, _CHUNK // chosen.size)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        permuted = rng.permuted(np.broadcast_to(chosen, (rows, *chosen.shape)), axis=2)
        extreme += int(np.count_nonzero((permuted.sum(axis=1) ** 2).sum(axis=1) >= observed - 1e-9))
    return (extreme + 1) / (resamples + 1)


@dataclass(frozen=True, slots=True)
class Agreement:
    """The reference judge's verdicts (right from a score of 0.5 on) against people's, on answers outside its fit.

    Attributes:
        domain: what the questions are about: "trivia" or "contracts".
        graded: whose answers were graded, in words: the kind of answering model.
        n_right: answers that people call right; `sensitivity` was measured on them.
        n_wrong: answers that people call wrong; `specificity` was measured on them.
        sensitivity: share of the right answers that the judge calls right, in [0, 1].
        specificity: share of the wrong answers that the judge calls wrong, in [0, 1].
        kappa: Cohen's kappa.
    """

    domain: str
    graded: str
    n_right: int
    n_wrong: int
    sensitivity: float
    specificity: float
    kappa: float


def judge_agreement(domain: str) -> Agreement | None:
    """The shipped reference judge's agreement in a domain; None where it was not measured."""
    return _judge_agreements().get(domain)


@cache
def _judge_agreements() -> dict[str, Agreement]:
    parameters = Path(__file__).with_name("reference_judge") / "parameters.json"
    rows = json.loads(parameters.read_text(encoding="utf-8"))["agreement"]["domains"]
    return {row["domain"]: Agreement(**row) for row in rows}
