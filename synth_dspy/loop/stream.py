"""The statistical signals over the stream of requests and feedback, with one rate of false alarms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synth_dspy.loop.labels import score_of
from synth_dspy.loop.live import LiveJudge, live_scores, question_of
from synth_dspy.loop.records import Feedback, Reading, Request
from synth_dspy.loop.signals.canaries import Canaries
from synth_dspy.loop.signals.quality import QualityDecay
from synth_dspy.loop.signals.questions import QuestionDrift, most_shifted
from synth_dspy.loop.signals.ranks import RankDrift

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

MODEL = "model"
STATISTICAL = ("questions", "people", "judge", "retrieval", "failures", "latency", "cost", MODEL)
"""Signals that share the rate of false alarms, each an equal part (Bonferroni)."""


class Statistic(Protocol):
    """What the statistical signals have in common."""

    rate: float
    alarm: bool

    @property
    def evidence(self) -> Any: ...


@dataclass
class Signals:
    """The statistical signals over a stream of requests and feedback.

    Args:
        rate: of false alarms, of all together.
        embed: embeds texts as unit vectors.
        judge: scores live answers; by default the fitted one.
        floors: mean scores that the champion should keep, by "people" and "judge"; without one, scores are only
            compared with earlier ones.
    """

    rate: float
    embed: Embed
    judge: LiveJudge | None = None
    floors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        part = self.rate / len(STATISTICAL)
        self.questions = QuestionDrift(part)
        self.canaries = Canaries(part)
        self.scores = {
            name: QualityDecay(self.floors[name], part) if name in self.floors else RankDrift(False, part)
            for name in ("people", "judge")
        }
        self.numbers = {
            "retrieval": RankDrift(False, part),
            "failures": RankDrift(True, part),
            "latency": RankDrift(True, part),
            "cost": RankDrift(True, part),
        }
        self.seen = dict.fromkeys(STATISTICAL, 0)
        self._texts: list[str] = []
        self._vectors: list[NDArray[np.float32]] = []

    def add_requests(self, requests: Sequence[Request]) -> None:
        """Take in the next answers of the champion."""
        if not requests:
            return
        texts = [question_of(each) for each in requests]
        vectors = self.embed(texts)
        self.questions.add(vectors)
        self._texts += texts
        self._vectors += list(vectors)
        self.seen["questions"] += len(requests)
        answered = [each for each in requests if each.error is None]
        judged = [each for each in live_scores(requests, self.judge) if each is not None]
        self.scores["judge"].add(judged)
        self.seen["judge"] += len(judged)
        self._add("failures", [float(each.error is not None or each.abstained) for each in requests])
        self._add("latency", [each.latency_s for each in answered])
        self._add("cost", [_cost(each) for each in answered])
        self._add("retrieval", self._nearness(requests, vectors))

    def add_feedback(self, feedback: Sequence[Feedback]) -> None:
        """Take in the next feedback of people."""
        scores = [score for each in feedback if each.source == "person" and (score := score_of(each)) is not None]
        self.scores["people"].add(scores)
        self.seen["people"] += len(scores)

    def add_canaries(self, answers: Mapping[str, str]) -> None:
        """Take in a day's answers to the canary questions."""
        self.canaries.add(answers)
        self.seen[MODEL] += len(answers)

    def readings(self, at: datetime, about: Mapping[str, Any]) -> list[Reading]:
        """What every signal says that has seen something.

        Args:
            at: the time.
            about: what is read: champion and beginning.
        """
        every: dict[str, Any] = {"questions": self.questions, **self.scores, **self.numbers, MODEL: self.canaries}
        return [
            Reading(
                name,
                at,
                _value(each),
                1 / each.rate,
                each.alarm,
                {**about, "seen": self.seen[name], **self._more(name)},
            )
            for name, each in every.items()
            if self.seen[name]
        ]

    def _add(self, name: str, values: Sequence[float]) -> None:
        self.numbers[name].add(values)
        self.seen[name] += len(values)

    def _nearness(self, requests: Sequence[Request], vectors: NDArray[np.float32]) -> list[float]:
        """The cosine of each question and the nearest of its passages."""
        found = [(n, text) for n, request in enumerate(requests) for text in request.passages if text.strip()]
        if not found:
            return []
        cosines: dict[int, float] = {}
        for (n, _), vector in zip(found, self.embed([text for _, text in found]), strict=True):
            cosines[n] = max(cosines.get(n, -1.0), float(vector @ vectors[n]))
        return [cosines[n] for n in sorted(cosines)]

    def _more(self, name: str) -> dict[str, Any]:
        """The questions that are least like those before, once they changed."""
        window = self.questions.window
        if name != "questions" or not self.questions.alarm or len(self._texts) <= window:
            return {}
        before, after = np.stack(self._vectors[:-window]), np.stack(self._vectors[-window:])
        return {"questions_that_moved": most_shifted(before, after, self._texts[-window:])}


def _cost(request: Request) -> float:
    """Its price, or its tokens where the model has none."""
    tokens = request.prompt_tokens + request.completion_tokens
    return float(tokens) if request.cost_usd is None else request.cost_usd


def _value(signal: Statistic) -> float:
    return float(getattr(signal.evidence, "value", signal.evidence))
