"""The statistical signals of one champion together, with one stated probability of any false alarm.

The probability is split evenly over the signals, so it bounds their false alarms together, whatever their dependence
and however long they watch. It begins anew with each champion: its answers are what later ones are compared with.
Documents, which are compared exactly, raise no false alarms and are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synth_dspy.loop.records import Reading
from synth_dspy.loop.signals.canaries import Canaries
from synth_dspy.loop.signals.quality import QualityDecay
from synth_dspy.loop.signals.questions import QuestionDrift, most_shifted
from synth_dspy.loop.signals.ranks import RankDrift
from synth_dspy.loop.signals.sequential import RATE

Array = NDArray[np.float32]

MODEL = "model"
STATISTICAL = ("questions", "people", "judge", "retrieval", "failures", "latency", "cost", MODEL)
"""Signals that share the rate of false alarms, each an equal part (Bonferroni)."""
SCORES = ("people", "judge")
"""Of these, those that watch the quality of answers."""
_HIGH = {"retrieval": False, "failures": True, "latency": True, "cost": True}
"""Those that watch ranks, and whether high numbers are the bad ones."""
_NOTHING = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class Observed:
    """What has come since the last look.

    Attributes:
        vectors: embeddings of the questions, shape (n, d).
        texts: the questions, n of them; without them, those that moved cannot be named.
        people: people's scores of answers, in [0, 1].
        judge: the judge's scores of answers, in [0, 1].
        retrieval: how near each question's best passage is.
        failures: 1.0 for each request that failed or got no answer, 0.0 for each other.
        latency: seconds of each answer.
        cost: of each answer.
        canaries: the canary questions' answers, where they were asked again.
    """

    vectors: Array = field(default_factory=lambda: _NOTHING)
    texts: Sequence[str] = ()
    people: Sequence[float] = ()
    judge: Sequence[float] = ()
    retrieval: Sequence[float] = ()
    failures: Sequence[float] = ()
    latency: Sequence[float] = ()
    cost: Sequence[float] = ()
    canaries: Mapping[str, str] = field(default_factory=dict)


class Statistic(Protocol):
    """What the statistical signals have in common."""

    rate: float
    alarm: bool

    @property
    def evidence(self) -> Any: ...


def part_of(rate: float) -> float:
    """The part of each signal in the probability of a false alarm."""
    return rate / len(STATISTICAL)


class Signals:
    """Watches a champion.

    Args:
        rate: probability that any signal ever raises an alarm although nothing changes.
        floors: mean scores that the champion should keep, by "people" and "judge", as `floor_of(..., part_of(rate))`
            gives them; without one, scores are only compared with earlier ones.
        seed: of the permutations and of the breaking of ties.
    """

    def __init__(self, rate: float = RATE, floors: Mapping[str, float] | None = None, *, seed: int = 0) -> None:
        part, floors = part_of(rate), floors or {}
        self._questions = QuestionDrift(part, seed=seed)
        self._canaries = Canaries(part, seed)
        self._numbers: dict[str, QualityDecay | RankDrift] = {
            name: QualityDecay(floors[name], part / 2) if name in floors else RankDrift(False, part, seed)
            for name in SCORES
        }
        self._numbers |= {
            name: RankDrift(high, part, seed + place) for place, (name, high) in enumerate(_HIGH.items(), 1)
        }
        self._seen = dict.fromkeys(STATISTICAL, 0)
        self._texts: list[str] = []
        self._vectors: list[Array] = []

    def add(self, observed: Observed) -> None:
        """Take in what has come."""
        if len(observed.vectors):
            self._questions.add(observed.vectors)
            self._texts += observed.texts
            self._vectors += list(observed.vectors)
            self._seen["questions"] += len(observed.vectors)
        for name, signal in self._numbers.items():
            values = getattr(observed, name)
            signal.add(values)
            self._seen[name] += len(values)
        if observed.canaries:
            self._canaries.add(observed.canaries)
            self._seen[MODEL] += len(observed.canaries)

    def readings(self, at: datetime, about: Mapping[str, Any] | None = None) -> list[Reading]:
        """What every signal says that has seen something; an alarm, once raised, stays.

        Args:
            at: the time.
            about: what is read, such as the champion: goes into the evidence.
        """
        every: dict[str, Statistic] = {"questions": self._questions, **self._numbers, MODEL: self._canaries}
        return [
            Reading(
                name,
                at,
                float(getattr(each.evidence, "value", each.evidence)),
                1 / each.rate,
                each.alarm,
                {**(about or {}), "seen": self._seen[name], **self._more(name)},
            )
            for name, each in every.items()
            if self._seen[name]
        ]

    def _more(self, name: str) -> dict[str, Any]:
        """The questions that are least like those before, once they changed; the floor of scores."""
        signal = self._numbers.get(name)
        if isinstance(signal, QualityDecay):
            return {"floor": signal.floor}
        window = self._questions.window
        if name != "questions" or not self._questions.alarm or not window < len(self._texts) == len(self._vectors):
            return {}
        before, after = np.stack(self._vectors[:-window]), np.stack(self._vectors[-window:])
        return {"questions_that_moved": most_shifted(before, after, self._texts[-window:])}
