"""All signals of one champion together, with one stated probability of any false alarm.

The probability is split evenly over the signals, so it bounds their false alarms together, whatever their dependence
and however long they watch. It begins anew with each champion: its answers are what later ones are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from synth_dspy.loop.records import Reading
from synth_dspy.loop.signals.canaries import Canaries
from synth_dspy.loop.signals.documents import DocumentChanges, document_changes
from synth_dspy.loop.signals.quality import QualityDecay
from synth_dspy.loop.signals.questions import QuestionDrift
from synth_dspy.loop.signals.ranks import RankDrift
from synth_dspy.loop.signals.sequential import RATE

Array = NDArray[np.float32]

SIGNALS = ("questions", "judged", "rated", "canaries", "retrieval", "latency", "cost")
"""Those that may raise a false alarm; `documents`, which are compared exactly, cannot."""
DOCUMENTS = "documents"


@dataclass(frozen=True, slots=True)
class Observed:
    """What has come since the last look.

    Attributes:
        vectors: embeddings of the questions, shape (n, d).
        judged: the judge's scores of answers, in [0, 1].
        rated: people's scores of answers, in [0, 1].
        retrieval: the score of each question's best passage.
        latency: seconds of each answer.
        cost: of each answer.
        canaries: the canary questions' answers, where they were asked again.
        documents: SHA-256 of each document's text, where they were read again.
    """

    vectors: Array
    judged: Sequence[float] = ()
    rated: Sequence[float] = ()
    retrieval: Sequence[float] = ()
    latency: Sequence[float] = ()
    cost: Sequence[float] = ()
    canaries: Mapping[str, str] = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)


class Monitor:
    """Watches a champion."""

    def __init__(
        self,
        judged: Sequence[float],
        rated: Sequence[float],
        documents: Mapping[str, str],
        *,
        rate: float = RATE,
        seed: int = 0,
    ) -> None:
        """Begin to watch.

        Args:
            judged: scores by the judge that quality is not to fall below; empty: the judge is not watched.
            rated: the same by people.
            documents: SHA-256 of each document's text as the champion knows it.
            rate: probability that any signal ever raises an alarm although nothing changes.
            seed: of the permutations and of the breaking of ties.
        """
        self.rate = rate / len(SIGNALS)
        self._documents = documents
        self._questions = QuestionDrift(self.rate, seed=seed)
        self._canaries = Canaries(self.rate, seed)
        self._scores = {
            name: QualityDecay.below(reference, self.rate)
            for name, reference in (("judged", judged), ("rated", rated))
            if any(reference)
        }
        self._ranks = {
            name: RankDrift(high, self.rate, seed + place)
            for place, (name, high) in enumerate((("retrieval", False), ("latency", True), ("cost", True)))
        }

    def look(self, at: datetime, observed: Observed) -> list[Reading]:
        """Take in what has come and read every signal.

        Returns:
            A reading of each signal; an alarm, once raised, stays.
        """
        self._questions.add(observed.vectors)
        if observed.canaries:
            self._canaries.add(observed.canaries)
        for name, scores in self._scores.items():
            scores.add(getattr(observed, name))
        for name, ranks in self._ranks.items():
            ranks.add(getattr(observed, name))
        readings = [
            Reading(name, at, evidence.value, 1 / self.rate, alarm)
            for name, evidence, alarm in (
                ("questions", self._questions.evidence, self._questions.alarm),
                ("canaries", self._canaries.evidence, self._canaries.alarm),
                *((name, each.evidence, each.alarm) for name, each in self._ranks.items()),
            )
        ]
        readings += [
            Reading(name, at, each.evidence, 1 / each.rate, each.alarm, {"floor": each.floor})
            for name, each in self._scores.items()
        ]
        if observed.documents:
            readings.append(self._changes(at, document_changes(self._documents, observed.documents)))
        return readings

    def _changes(self, at: datetime, changes: DocumentChanges) -> Reading:
        names = {"added": changes.added, "changed": changes.changed, "removed": changes.removed}
        count = float(sum(map(len, names.values())))
        return Reading(DOCUMENTS, at, count, 1.0, bool(changes), {k: list(v) for k, v in names.items() if v})
