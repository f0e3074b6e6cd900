"""Has a number that comes with each request moved: the best passage's score, the latency, the cost?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from synth_dspy.loop.signals.sequential import BLOCK, RATE, PEvidence, Ranks


@dataclass(slots=True)
class RankDrift:
    """Watches one number.

    Attributes:
        high: whether it is its growth that is to be noticed, as of latency and cost, else its fall, as of a score.
        rate: probability that it ever raises an alarm although nothing changes.
    """

    high: bool
    rate: float = RATE
    seed: int = 0
    evidence: PEvidence = field(default_factory=lambda: PEvidence(BLOCK))
    alarm: bool = False
    _ranks: Ranks = field(init=False)

    def __post_init__(self) -> None:
        self._ranks = Ranks(self.high, self.seed)

    def add(self, values: Iterable[float]) -> bool:
        """Take in the next numbers.

        Returns:
            Whether the alarm is raised; once raised, it stays.
        """
        for value in values:
            self.alarm |= self.evidence.update(self._ranks.p(value)) >= 1 / self.rate
        return self.alarm
