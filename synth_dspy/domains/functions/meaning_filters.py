"""Filters on a request's meaning: it is nearest to its function, and its calls lead back to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import KEPT, Candidate, Verdict
from synth_dspy.core.protocols import Embed
from synth_dspy.domains.functions.details import what_it_does
from synth_dspy.domains.functions.schema import Function
from synth_dspy.domains.functions.units import RequestUnit


class LeadsToFunction:
    """The functions that a request was written from are among the nearest to it in meaning.

    If nothing is to be called because no function fits, the functions offered must be further away than the one meant.

    Args:
        embed: texts to unit vectors.
        registry: functions by name.
        nearest: how many functions count as nearest.
        least: least cosine similarity to the one meant.
    """

    name = "leads to its function"

    def __init__(self, embed: Embed, registry: Mapping[str, Function], nearest: int = 3, least: float = 0.2) -> None:
        self.embed = embed
        self.nearest = nearest
        self.least = least
        self.registry = registry
        self._vectors: NDArray[np.float32] | None = None
        self._lock = threading.Lock()

    def __call__(self, candidate: Candidate[RequestUnit]) -> Verdict:
        if candidate.fields.get("conversation"):
            return KEPT  # a follow-up refers to earlier turns
        with self._lock:
            if self._vectors is None:  # for a large interface this takes a while
                self._vectors = self.embed([what_it_does(function) for function in self.registry.values()])
        near = self._vectors @ self.embed([str(candidate.fields["question"])])[0]
        scores = dict(zip(self.registry, map(float, near), strict=True))
        meant = [each.name for call in candidate.unit.about for each in (call, *call.inner())]
        offered = candidate.fields["available"]
        if not set(meant) & set(offered):
            rival = max(offered, key=lambda name: scores[name])
            keep = scores[rival] < scores[meant[0]]
            return Verdict(keep, 1.0 - max(0.0, scores[rival]), "" if keep else f"another function may fit: {rival}")
        ranked = sorted(scores, key=lambda name: -scores[name])[: self.nearest + len(set(meant)) - 1]
        keep = set(meant) <= set(ranked) and scores[meant[0]] >= self.least
        return Verdict(keep, max(0.0, scores[meant[0]]), "" if keep else f"leads to another function: {ranked[0]}")


class ReverseQueries:
    """The teacher's other requests for the same calls must be similar to the request on average.

    Args:
        ask: from a candidate to further requests.
        embed: texts to unit vectors.
        threshold: least mean cosine similarity of the requests to the candidate's own.
        quantile: instead of a threshold: reject this share of a batch, with the lowest means. It takes effect
            if `prepare` is called with the batch.
        executor: runs the calls of a batch concurrently.
    """

    name = "reverse query"

    def __init__(
        self,
        ask: Callable[[Candidate[RequestUnit]], Sequence[str]],
        embed: Embed,
        threshold: float = 0.5,
        quantile: float | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.executor = executor or Executor(1)
        self.ask = ask
        self.embed = embed
        self.threshold = threshold
        self.quantile = quantile
        self._scores: dict[str, float] = {}

    def prepare(self, candidates: Sequence[Candidate[RequestUnit]]) -> None:
        """Set the threshold at the quantile of a batch's scores, leaving out conversations and failed calls."""
        if self.quantile is None:
            return
        judged = [candidate for candidate in candidates if not candidate.fields.get("conversation")]
        outcomes = self.executor.map(self.score, judged)
        scores = [outcome.unwrap() for outcome in outcomes if outcome.error is None]
        if scores:
            self.threshold = float(np.quantile(np.asarray(scores), self.quantile))

    def score(self, candidate: Candidate[RequestUnit]) -> float:
        """Mean cosine similarity of the teacher's further requests to the candidate's own; computed once."""
        if candidate.id not in self._scores:
            again = [request for request in self.ask(candidate) if request]
            vectors = self.embed([str(candidate.fields["question"]), *again])
            self._scores[candidate.id] = float(np.mean(vectors[1:] @ vectors[0])) if again else 0.0
        return self._scores[candidate.id]

    def __call__(self, candidate: Candidate[RequestUnit]) -> Verdict:
        if candidate.fields.get("conversation"):
            return KEPT  # "And in yen?" is not similar to a complete request
        score = self.score(candidate)
        keep = score >= self.threshold
        return Verdict(keep, max(0.0, score), "" if keep else "asks something else")
