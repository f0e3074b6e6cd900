"""How far a judge can be trusted: its agreement with human labels, and the mapping that makes its scores probabilities.

Any judge can be calibrated: take its scores on labelled answers, fit `Calibration` on half of the groups, apply it,
and report `agreement` on the other half.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth_dspy.evaluation.stats import LEVEL, MIN_GROUPS

Scores = Sequence[float] | NDArray[np.float64]
Interval = tuple[float, float]

ACCEPTED = 0.5
"""A score from here on counts as "right"."""
_BINS = 10
_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class AgreementFigures:
    """A judge against labels. `auroc` is NaN where all labels are the same, `kappa` where the scores agree with them.

    The intervals (95 %) are percentile bootstraps over groups; None where the groups are fewer than `MIN_GROUPS`, where
    all labels are the same, and where no sample gives another figure: that shows no spread, which is not certainty.
    """

    n: int
    accuracy: float
    balanced_accuracy: float
    kappa: float
    """Cohen's kappa: agreement beyond what the shares of right and wrong give by chance (Cohen, 1960)."""
    auroc: float
    brier: float
    calibration_error: float
    """Expected calibration error over ten bins of equal width (Naeini et al., 2015)."""
    kappa_interval: Interval | None = None
    auroc_interval: Interval | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"n {self.n}, accuracy {self.accuracy:.3f}, balanced accuracy {self.balanced_accuracy:.3f}, "
            f"Cohen's kappa {self.kappa:.3f}{_interval_text(self.kappa_interval)}, "
            f"AUROC {self.auroc:.3f}{_interval_text(self.auroc_interval)}, Brier score {self.brier:.3f}, "
            f"calibration error {self.calibration_error:.3f}"
        )


def _interval_text(interval: Interval | None) -> str:
    return "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"


def agreement(
    scores: Scores, labels: Sequence[int] | NDArray[np.int64], groups: Sequence[Hashable] | None = None
) -> AgreementFigures:
    """Figures of `scores` in [0, 1] against `labels` (1 right, 0 wrong).

    Args:
        scores: shape (n,).
        labels: shape (n,).
        groups: of scores drawn together, such as answers to one question; resampled whole. None: each is its own.

    Raises:
        ValueError: no items, or not one label for each score.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    if not len(score) or score.shape != label.shape:
        raise ValueError(f"agreement needs one label for each score, got {len(score)} scores and {len(label)} labels")
    accepted = (score >= ACCEPTED).astype(np.int64)
    recalls = [float((accepted[label == value] == value).mean()) for value in (0, 1) if (label == value).any()]
    place, once = _places(score), np.ones(len(score))
    kappas, aurocs = _intervals(accepted, place, label, np.arange(len(score)) if groups is None else groups)
    return AgreementFigures(
        n=len(score),
        accuracy=float((accepted == label).mean()),
        balanced_accuracy=float(np.mean(recalls)),
        kappa=_kappa(accepted, label, once),
        auroc=_auroc(place, label, once),
        brier=float(((score - label) ** 2).mean()),
        calibration_error=_calibration_error(score, label),
        kappa_interval=kappas,
        auroc_interval=aurocs,
    )


def auroc(scores: Scores, labels: Sequence[int] | NDArray[np.int64]) -> float:
    """Probability that a right answer scores above a wrong one, ties counting half; NaN if one kind is missing."""
    place = _places(np.asarray(scores, np.float64))
    return _auroc(place, np.asarray(labels, np.int64), np.ones(len(place)))


def _places(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each score among the distinct ones, from the lowest."""
    places: NDArray[np.int64] = np.unique(score, return_inverse=True)[1]
    return places


def _auroc(place: NDArray[np.int64], label: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    right, wrong = np.bincount(place, weight * label), np.bincount(place, weight * (1 - label))
    pairs = float(right.sum() * wrong.sum())
    below = np.cumsum(wrong) - wrong
    return float(right @ (below + wrong / 2)) / pairs if pairs else float("nan")


def _kappa(accepted: NDArray[np.int64], label: NDArray[np.int64], weight: NDArray[np.float64]) -> float:
    same, yes, right = (float(np.average(each, weights=weight)) for each in (accepted == label, accepted, label))
    chance = yes * right + (1 - yes) * (1 - right)
    return (same - chance) / (1 - chance) if chance < 1 else float("nan")


def _intervals(
    accepted: NDArray[np.int64],
    place: NDArray[np.int64],
    label: NDArray[np.int64],
    groups: Sequence[Hashable] | NDArray[np.int64],
) -> tuple[Interval | None, Interval | None]:
    """Intervals of kappa and AUROC, by resampling groups."""
    _, unit = np.unique([str(group) for group in groups], return_inverse=True)
    count = int(unit.max()) + 1
    if count < MIN_GROUPS:
        return None, None
    rng, share = np.random.default_rng(0), np.full(count, 1 / count)
    weights = (rng.multinomial(count, share)[unit].astype(np.float64) for _ in range(_RESAMPLES))
    drawn = np.array([(_kappa(accepted, label, weight), _auroc(place, label, weight)) for weight in weights])
    kappas, aurocs = drawn[~np.isnan(drawn[:, 1])].T  # AUROC is undefined where all labels are the same
    return _middle(kappas), _middle(aurocs)


def _middle(drawn: NDArray[np.float64]) -> Interval | None:
    if not len(drawn) or np.ptp(drawn) < 1e-12:
        return None
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _calibration_error(score: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    bins = np.minimum((score * _BINS).astype(int), _BINS - 1)
    gaps = [
        (bins == b).mean() * abs(score[bins == b].mean() - label[bins == b].mean()) for b in range(_BINS) if b in bins
    ]
    return float(sum(gaps))
