"""Scores of answers that were given in production, where nobody knows the right one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

from synth_dspy.core.text import as_text
from synth_dspy.loop.records import Request


class LiveJudge(Protocol):
    """Scores answers by their passages, in [0, 1]; NaN where it does not apply."""

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]: ...


@lru_cache(maxsize=1)
def fitted_judge() -> LiveJudge:
    """The groundedness judge that needs no language model."""
    from synth_dspy.evaluation.groundedness.judges import FittedJudge

    return FittedJudge("grounded")


def question_of(request: Request) -> str:
    """A request's inputs as one text."""
    question = request.inputs.get("question")
    if isinstance(question, str):
        return question
    return as_text(next(iter(request.inputs.values())) if len(request.inputs) == 1 else dict(request.inputs))


def live_scores(requests: Sequence[Request], judge: LiveJudge | None = None) -> list[float | None]:
    """Whether answers are supported by their passages; 0 for a failed request, None where nothing can be said.

    Args:
        requests: with their answers.
        judge: by default `fitted_judge`, which is loaded where an answer has passages.
    """
    scores: list[float | None] = [0.0 if request.error is not None else None for request in requests]
    places = [n for n, request in enumerate(requests) if request.error is None and any(request.passages)]
    if places:
        rows = [
            {
                "question": question_of(request),
                "prediction": request.answer,
                "abstained": request.abstained,
                "passages": list(request.passages),
            }
            for request in (requests[n] for n in places)
        ]
        for n, score in zip(places, (judge or fitted_judge()).score_many(rows), strict=True):
            scores[n] = None if math.isnan(score) else score
    return scores
