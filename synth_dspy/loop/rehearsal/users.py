"""Simulated users: they rate some of the answers, mostly as the right answer says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth_dspy.loop.records import Feedback, Request

_BAD = (1, 2)  # scores of a wrong answer
_GOOD = (4, 5)


@dataclass(frozen=True, slots=True)
class Users:
    """What people do.

    Attributes:
        raters: how many they are.
        rated: share of answers that somebody rates.
        noise: probability that a rating says the contrary of what is right.
        label_noise: the same of the labels that the gate asks for, which are given with care.
        careless: share of raters who rate at random.
        scores: share of ratings that are a score from 1 to 5; the others are a thumb.
        corrections: share of answers thought wrong that are corrected instead of rated.
    """

    raters: int = 20
    rated: float = 0.3
    noise: float = 0.1
    label_noise: float = 0.05
    careless: float = 0.0
    scores: float = 0.3
    corrections: float = 0.2

    def rate(
        self, requests: Sequence[Request], right: Sequence[bool], references: Sequence[str], draws: np.random.Generator
    ) -> list[Feedback]:
        """What they say of some answers.

        Args:
            requests: the answers, n of them.
            right: whether each is right.
            references: the right answers, which corrections consist of.
            draws: random numbers.
        """
        feedback = []
        for place in np.flatnonzero(draws.random(len(requests)) < self.rated).tolist():
            rater = int(draws.integers(self.raters))
            good, value = self._opinion(rater, right[place], draws, self.noise), references[place]
            if not good and not right[place] and draws.random() < self.corrections:
                feedback.append(self._feedback(requests[place], rater, "correction", value))
            elif draws.random() < self.scores:
                score = int(draws.choice(_GOOD if good else _BAD))
                feedback.append(self._feedback(requests[place], rater, "score", score))
            else:
                feedback.append(self._feedback(requests[place], rater, "thumb", good))
        return feedback

    def label(self, right: bool, draws: np.random.Generator) -> float:
        """A label that one of them gives to an answer for the gate: 1 where it is thought right."""
        return float(self._opinion(int(draws.integers(self.raters)), right, draws, self.label_noise))

    def _opinion(self, rater: int, right: bool, draws: np.random.Generator, noise: float) -> bool:
        if rater < round(self.careless * self.raters):
            return bool(draws.random() < 0.5)
        return right != bool(draws.random() < noise)

    def _feedback(self, request: Request, rater: int, kind: str, value: bool | int | str) -> Feedback:
        identifier = f"{request.id}-{rater}"
        return Feedback(identifier, request.at, request.id, kind, value, rater=f"rater {rater}")  # type: ignore[arg-type]


def as_score(feedback: Feedback) -> float | None:
    """A rating as a number in [0, 1]; None for what is not a rating. A corrected answer was not right."""
    if feedback.kind == "thumb":
        return float(feedback.value)
    if feedback.kind == "score":
        return (int(feedback.value) - 1) / 4
    return 0.0 if feedback.kind == "correction" else None
