"""Compares an answer and a reference by contextual token vectors, where their words do not decide.

Only where the answer does not hold the whole reference are both embedded, after the question, and their tokens compared
each with each: this is where a judge's time goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.text import STOPWORDS, Text
from synth_dspy.evaluation.reference_judge.features import AnswerComparison

if TYPE_CHECKING:
    from synth_dspy.models.embedder import TokenVectors

    Array = NDArray[np.float32]


class TokenEmbedder(Protocol):
    """What the judge needs of an embedder."""

    name: str

    def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]: ...


MEANING_FEATURES = (
    "asked_cosine", "best_cosine", "stretch_cosine", "reference_met_mean", "reference_met_least",
    "answer_met_mean", "mean_cosine", "question_cosine", "added_met_mean", "added_cosine", "direction_cosine",
)  # fmt: skip

_WHOLE = 0.99
MENTIONED = 0.5
"""Share of the reference's words, by weight, from which an answer counts as naming it."""
_ANSWER_WORDS, _QUESTION_WORDS, _LONG_WORDS = 30, 18, 24
_REFERENCES = 3


def meaning_features(
    questions: Sequence[str],
    comparisons: Sequence[AnswerComparison],
    embedder: TokenEmbedder,
) -> NDArray[np.float64]:
    """Features of meaning for many answers at once; NaN where they were not needed.

    Args:
        questions: one for each comparison.
        comparisons: answers against their closest reference.
        embedder: gives token vectors; every text is embedded once.

    Returns:
        Features, shape (answers, len(MEANING_FEATURES)).
    """
    places: dict[str, int] = {}
    jobs: list[_Job | None] = []
    for question, comparison in zip(questions, comparisons, strict=True):
        if comparison.share >= _WHOLE:
            jobs.append(None)
            continue
        long = len(comparison.reference.split()) > _LONG_WORDS
        reference = _first_words(comparison.reference, _LONG_WORDS)
        answer = _excerpt(comparison.answer, comparison.span, _LONG_WORDS if long else _ANSWER_WORDS)
        short_question = _first_words(question, _QUESTION_WORDS)
        others = [_first_words(other, _LONG_WORDS) for other in comparison.ranked[:_REFERENCES]]
        job = _Job("", reference, answer, others) if long else _Job(f"{short_question} ", reference, answer, others)
        jobs.append(job)
        for text in job.texts():
            places.setdefault(text, len(places))
    vectors = embedder.embed_tokens(list(places)) if places else []
    features = np.full((len(comparisons), len(MEANING_FEATURES)), np.nan)
    for row, compared in enumerate(jobs):
        if compared is not None:
            features[row] = compared.features(lambda name: vectors[places[name]])
    return features


class _Job:
    """An answer and a reference to compare by meaning: the texts to embed, and the features computed from them.

    Both are embedded after the question, which tells Mercury the planet from mercury the metal.
    """

    def __init__(self, question: str, reference: str, answer: str, others: list[str]) -> None:
        self.question, self.others = question, others
        self.reference, self.answer = question + reference, question + answer

    def texts(self) -> list[str]:
        return [text for text in (self.question, self.reference, self.answer, *self.others) if text]

    def features(self, of: Callable[[str], TokenVectors]) -> list[float]:
        answer, reference = self._own(of(self.answer)), self._own(of(self.reference))
        mean = _unit_mean(answer)
        others = [_unit_mean(of(other).vectors) for other in self.others]
        matched = _best_cosines(reference, answer)
        added, expected = self._added(of(self.answer), of), self._added(of(self.reference), of)
        question_mean = _mean(of(self.question).vectors) if self.question else 0.0
        return [
            float(_unit_mean(of(self.answer).vectors) @ _unit_mean(of(self.reference).vectors)),
            max((float(mean @ other) for other in others), default=np.nan),
            max((_stretch(answer, other) for other in (_unit_mean(reference), *others)), default=np.nan),
            float(matched.mean()),
            float(matched.min()),
            float(_best_cosines(answer, reference).mean()),
            float(mean @ _unit_mean(reference)),
            float(mean @ _unit_mean(of(self.question).vectors)) if self.question else np.nan,
            float(_best_cosines(expected, answer).mean()) if len(expected) else np.nan,
            float(_unit_mean(added) @ _unit_mean(expected)) if len(added) and len(expected) else np.nan,
            _cosine(_mean(answer) - question_mean, _mean(reference) - question_mean),
        ]

    def _added(self, tokens: TokenVectors, of: Callable[[str], TokenVectors]) -> Array:
        """Vectors of the content tokens that are not in the question: what is claimed, not repeated."""
        in_question = set(of(self.question).tokens) if self.question else set()
        keep = [
            i
            for i, (token, (start, _)) in enumerate(zip(tokens.tokens, tokens.offsets, strict=True))
            if start >= len(self.question)
            and token not in in_question
            and token not in STOPWORDS
            and token[-1:].isalnum()
        ]
        return tokens.vectors[keep]

    def _own(self, tokens: TokenVectors) -> Array:
        """The vectors of what follows the question."""
        keep = [i for i, (start, _) in enumerate(tokens.offsets) if start >= len(self.question)]
        return tokens.vectors[keep] if keep else tokens.vectors


def _best_cosines(ours: Array, theirs: Array) -> Array:
    """For each token of `ours` its greatest cosine to a token of `theirs` (late interaction, as in ColBERT)."""
    if not len(ours) or not len(theirs):
        return np.zeros(1, np.float32)
    best: Array = (ours @ theirs.T).max(axis=1)
    return best


def _cosine(one: Array, other: Array) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-9))


def _stretch(answer: Array, goal: Array) -> float:
    """Greatest cosine of a unit vector to the mean of a short stretch of the answer."""
    if not len(answer):
        return 0.0
    sums = np.vstack([np.zeros((1, answer.shape[1]), np.float32), np.cumsum(answer, axis=0)])
    best = -1.0
    for width in sorted({min(width, len(answer)) for width in (1, 2, 4, 8)}):
        means = sums[width:] - sums[:-width]
        lengths = np.linalg.norm(means, axis=1) + 1e-9
        best = max(best, float(((means @ goal) / lengths).max()))
    return best


def _mean(vectors: Array) -> Array:
    mean: Array = vectors.mean(axis=0) if len(vectors) else np.zeros(vectors.shape[1], np.float32)
    return mean


def _unit_mean(vectors: Array) -> Array:
    mean = _mean(vectors)
    unit: Array = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def _first_words(text: str, most: int) -> str:
    return " ".join(text.split()[:most])


def _excerpt(answer: Text, span: tuple[int, int] | None, most: int) -> str:
    """The part of the answer to embed: from a little before the mention, or from the beginning."""
    words = answer.text.split()
    if len(words) <= most or span is None:
        return " ".join(words[:most])
    before = len(answer.text[: answer.tokens[span[0]].start].split())
    start = max(0, min(before - 8, len(words) - most))
    return " ".join(words[start : start + most])
