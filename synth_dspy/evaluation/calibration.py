"""How far a judge can be trusted: its agreement with human labels, and the mapping that makes its scores probabilities.

Any judge can be calibrated: take its scores on labelled answers, fit `Calibration` on half of the groups, apply it,
and report `agreement` on the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[float] | NDArray[np.float64]

ACCEPTED = 0.5
"""A score from here on counts as "right"."""
_BINS = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge against labels. `auroc` and `kappa` are NaN where all labels are the same."""

    n: int
    accuracy: float
    balanced_accuracy: float
    kappa: float
    """Cohen's kappa: agreement beyond what the shares of right and wrong give by chance (Cohen, 1960)."""
    auroc: float
    brier: float
    calibration_error: float
    """Expected calibration error over ten bins of equal width (Naeini et al., 2015)."""

    def as_dict(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"n {self.n}, accuracy {self.accuracy:.3f}, balanced accuracy {self.balanced_accuracy:.3f}, "
            f"Cohen's kappa {self.kappa:.3f}, AUROC {self.auroc:.3f}, Brier score {self.brier:.3f}, "
            f"calibration error {self.calibration_error:.3f}"
        )


def agreement(scores: Scores, labels: Sequence[int] | NDArray[np.int64]) -> Agreement:
    """Figures of `scores` in [0, 1] against `labels` (1 right, 0 wrong).

    Raises:
        ValueError: no items, or not one label for each score.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    if not len(score) or score.shape != label.shape:
        raise ValueError(f"agreement needs one label for each score, got {len(score)} scores and {len(label)} labels")
    said = (score >= ACCEPTED).astype(np.int64)
    accuracy = float((said == label).mean())
    recalls = [float((said[label == value] == value).mean()) for value in (0, 1) if (label == value).any()]
    chance = float(said.mean() * label.mean() + (1 - said.mean()) * (1 - label.mean()))
    return Agreement(
        n=len(score),
        accuracy=accuracy,
        balanced_accuracy=float(np.mean(recalls)),
        kappa=(accuracy - chance) / (1 - chance) if chance < 1 else float("nan"),
        auroc=auroc(score, label),
        brier=float(((score - label) ** 2).mean()),
        calibration_error=_calibration_error(score, label),
    )


def auroc(scores: Scores, labels: Sequence[int] | NDArray[np.int64]) -> float:
    """Chance that a right answer scores above a wrong one, ties counting half; NaN where one kind is missing."""
    from scipy.stats import rankdata

    label = np.asarray(labels)
    right, wrong = int(label.sum()), int(len(label) - label.sum())
    if not right or not wrong:
        return float("nan")
    ranks = rankdata(np.asarray(scores))
    return float((ranks[label == 1].sum() - right * (right + 1) / 2) / (right * wrong))


def _calibration_error(score: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    bins = np.minimum((score * _BINS).astype(int), _BINS - 1)
    gaps = [
        (bins == b).mean() * abs(score[bins == b].mean() - label[bins == b].mean()) for b in range(_BINS) if b in bins
    ]
    return float(sum(gaps))


@dataclass(frozen=True, slots=True)
class Calibration:
    """A rising mapping from raw scores to probabilities: straight lines between `(raw[i], probability[i])`."""

    raw: tuple[float, ...]
    probability: tuple[float, ...]

    def __call__(self, scores: Scores) -> NDArray[np.float64]:
        """Calibrated scores, in [0, 1]; outside of what the fit saw, the nearest end's value."""
        result: NDArray[np.float64] = np.interp(np.asarray(scores, np.float64), self.raw, self.probability)
        return result

    @classmethod
    def fit(cls, scores: Scores, labels: Scores, *, knots: int = 25) -> Calibration:
        """Isotonic regression of labels on scores (Zadrozny and Elkan, 2002), thinned to at most `knots` points.

        Args:
            scores: raw scores, any scale.
            labels: 1 right, 0 wrong, or anything between.
            knots: fewer points follow small samples less closely.

        Raises:
            ValueError: fewer than ten scores.
        """
        from scipy.optimize import isotonic_regression

        raw, label = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
        if len(raw) < 10:
            raise ValueError(f"calibration needs at least 10 labelled scores, got {len(raw)}")
        order = np.argsort(raw, kind="stable")
        raw, fitted = raw[order], isotonic_regression(label[order]).x
        pieces = np.array_split(np.arange(len(raw)), min(knots, len(raw)))
        places = [float(raw[piece].mean()) for piece in pieces]
        values = [float(fitted[piece].mean()) for piece in pieces]
        kept = [i for i in range(len(places)) if i == 0 or places[i] > places[i - 1]]
        return cls(tuple(places[i] for i in kept), tuple(values[i] for i in kept))
