"""Has quality fallen? A test by betting on scores in [0, 1], which may be looked at after every score.

A gambler who believes that the mean has fallen below `floor` stakes a share of the capital on each score's being below
it. While the mean is at least `floor` no betting makes money, whatever the scores' distribution (Waudby-Smith & Ramdas
2024, arXiv:2010.09686). Here several gamblers with different stakes play, for every time at which quality may have
fallen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth_dspy.loop.signals.sequential import BLOCK, RATE, ChangeEvidence

FEW = 10
"""With fewer scores nothing is said of their mean."""
_STAKES = (0.1, 0.2, 0.4, 0.8)  # of the largest that cannot ruin the gambler


@dataclass(slots=True)
class QualityDecay:
    """Watches scores of one kind.

    Attributes:
        floor: the mean that is to be kept, in (0, 1).
        rate: probability that it ever raises an alarm while the mean is at least `floor`.
        seen: scores so far.
    """

    floor: float
    rate: float = RATE
    alarm: bool = False
    seen: int = 0
    _gamblers: list[ChangeEvidence] = field(default_factory=lambda: [ChangeEvidence(BLOCK) for _ in _STAKES])

    def __post_init__(self) -> None:
        if not 0 < self.floor < 1:
            raise ValueError(f"The mean score to be kept lies between 0 and 1, not at {self.floor}.")

    @property
    def evidence(self) -> float:
        """The gamblers' mean capital, each having begun with 1."""
        return sum(each.value for each in self._gamblers) / len(self._gamblers)

    def add(self, scores: Iterable[float]) -> bool:
        """Take in the next scores.

        Returns:
            Whether the alarm is raised; once raised, it stays.

        Raises:
            ValueError: a score is not in [0, 1].
        """
        for score in scores:
            if not 0 <= score <= 1:
                raise ValueError(f"A score lies between 0 and 1, not at {score}.")
            self.seen += 1
            for gambler, stake in zip(self._gamblers, _STAKES, strict=True):
                gambler.update(1 + stake / (1 - self.floor) * (self.floor - score))
            self.alarm |= self.evidence >= 1 / self.rate
        return self.alarm


def floor_of(reference: Sequence[float], rate: float) -> float | None:
    """The mean that later scores are to keep: a lower bound of the mean of those before, such as the last champion's.

    The bound is exact for 0/1 scores (Clopper & Pearson 1934) and safe for others in [0, 1], whose sums are less spread
    (Hoeffding 1956). It is wrong in half of `rate` of the references; the other half is for `QualityDecay`.

    Args:
        reference: scores in [0, 1], of the same kind as those to come.
        rate: probability of a false alarm, of the bound and of what watches for scores below it together.

    Returns:
        The bound; None for a few scores, or where nothing could fall below it.
    """
    from scipy.stats import beta

    total, n = float(sum(reference)), len(reference)
    if n < FEW or total <= 0:
        return None
    return float(beta.ppf(rate / 2, total, n - total + 1))


def began_to_change(scores: Iterable[float]) -> int | None:
    """The place of the score at which an adaptive window sees the mean change, which is where to look first.

    ADWIN (Bifet & Gavaldà 2007) as in `river`. It has no bound on its false alarms over a long stream, so it decides
    nothing.
    """
    from river.drift import ADWIN

    window: Any = ADWIN()  # type: ignore[no-untyped-call]
    last = None
    for place, score in enumerate(scores):
        window.update(score)
        if window.drift_detected:
            last = place - int(window.width) + 1
    return last
