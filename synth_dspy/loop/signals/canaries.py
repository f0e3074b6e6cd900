"""Does a model under an unchanged name still answer as it did? The same questions, asked again each day.

A hosted model may be replaced without notice. Answers may differ from day to day even so (a batch's composition
decides the last bits), so a day's count of answers that differ from the first day's is compared with the days' before:
given the total, each split of the differing answers over days is as likely as any other while the model stays
(Fisher's exact test, one-sided), and the days' p-values are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import hypergeom

from synth_dspy.loop.signals.sequential import RATE, PEvidence


@dataclass(slots=True)
class Canaries:
    """Watches the answers to a fixed set of questions. The first day's are what later ones are compared with.

    Attributes:
        rate: probability that it ever raises an alarm although the model stays.
    """

    rate: float = RATE
    seed: int = 0
    evidence: PEvidence = field(default_factory=PEvidence)
    alarm: bool = False
    _first: dict[str, str] = field(default_factory=dict)
    _earlier: int = 0
    _differing: int = 0

    def add(self, answers: Mapping[str, str]) -> bool:
        """Take in a day's answers, by question.

        Returns:
            Whether the alarm is raised; once raised, it stays. Answers to other questions than before are a first day
            again.
        """
        if answers.keys() != self._first.keys():
            self._first, self._earlier, self._differing = dict(answers), 0, 0
            return self.alarm
        differing = sum(answers[question] != first for question, first in self._first.items())
        p = self._p(differing, len(answers))
        self._earlier += len(answers)
        self._differing += differing
        self.alarm |= self.evidence.update(p) >= 1 / self.rate
        return self.alarm

    def _p(self, differing: int, asked: int) -> float:
        """How likely as many of today's answers, or more, are among those that differ; ties broken at random.

        On the second day there is nothing to compare with: one answer in 20 is taken to differ by itself.
        """
        earlier, before = (self._earlier, self._differing) if self._earlier else (20 * asked, asked)
        counts = hypergeom(earlier + asked, before + differing, asked)
        u = np.random.default_rng([self.seed, self._earlier]).uniform()
        return float(counts.sf(differing) + u * counts.pmf(differing))
