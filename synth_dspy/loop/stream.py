"""Requests and feedback of the store as what the signals observe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from synth_dspy.loop.labels import score_of
from synth_dspy.loop.live import LiveJudge, live_scores, question_of
from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.signals.together import Observed

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def observe(
    requests: Sequence[Request], feedback: Sequence[Feedback], embed: Embed, judge: LiveJudge | None = None
) -> Observed:
    """What the signals see of the champion's answers and of people's feedback.

    Args:
        requests: in their order.
        feedback: in its order.
        embed: embeds texts as unit vectors.
        judge: scores live answers; by default the fitted one.
    """
    people = [score for each in feedback if each.source == "person" and (score := score_of(each)) is not None]
    if not requests:
        return Observed(people=people)
    texts = [question_of(each) for each in requests]
    vectors = embed(texts)
    answered = [each for each in requests if each.error is None]
    return Observed(
        vectors,
        texts,
        people=people,
        judge=[each for each in live_scores(requests, judge) if each is not None],
        retrieval=_nearness(requests, vectors, embed),
        failures=[float(each.error is not None or each.abstained) for each in requests],
        latency=[each.latency_s for each in answered],
        cost=[_cost(each) for each in answered],
    )


def _nearness(requests: Sequence[Request], vectors: NDArray[np.float32], embed: Embed) -> list[float]:
    """The cosine of each question and the nearest of its passages."""
    passages = [(n, text) for n, request in enumerate(requests) for text in request.passages if text.strip()]
    if not passages:
        return []
    cosines: dict[int, float] = {}
    for (n, _), vector in zip(passages, embed([text for _, text in passages]), strict=True):
        cosines[n] = max(cosines.get(n, -1.0), float(vector @ vectors[n]))
    return [cosines[n] for n in sorted(cosines)]


def _cost(request: Request) -> float:
    """Its price, or its tokens where the model has none."""
    tokens = request.prompt_tokens + request.completion_tokens
    return float(tokens) if request.cost_usd is None else request.cost_usd
