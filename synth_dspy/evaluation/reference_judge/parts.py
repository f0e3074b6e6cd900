"""Answers and references, parsed once and compared many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from synth_dspy.core.text import Text, parse


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference, ready to be compared."""

    text: str
    parsed: Text
    words: tuple[int, ...]
    norms: tuple[str, ...]
    trigrams: frozenset[str]


@dataclass(slots=True)
class Answer:
    """An answer and its question. `every` has all norms, stopwords included; `question_norms` those of the question."""

    text: Text
    low: list[str]
    words: list[int]
    norms: list[str]
    every: frozenset[str]
    trigrams: frozenset[str]
    question: Text
    question_norms: frozenset[str]


@lru_cache(maxsize=16384)
def reference_of(text: str) -> Reference:
    """A parsed reference. Cached, since many answers are compared with it."""
    parsed = parse(text)
    words = parsed.words or tuple(i for i, token in enumerate(parsed.tokens) if token.kind != "p")
    norms = tuple(parsed.tokens[i].norm for i in words)
    return Reference(text, parsed, words, norms, trigrams_of(norms))


@lru_cache(maxsize=64)
def answer_of(question: str, prediction: str) -> Answer:
    """A parsed answer and its question. Cached, since it is compared with several references."""
    parsed_question, text = parse(question), parse(prediction)
    words = list(text.words) or [i for i, token in enumerate(text.tokens) if token.kind != "p"]
    norms = [text.tokens[i].norm for i in words]
    return Answer(
        text,
        [text.text[token.start : token.end].lower() for token in text.tokens],
        words,
        norms,
        frozenset(token.norm for token in text.tokens),
        trigrams_of(norms),
        parsed_question,
        frozenset(token.norm for token in parsed_question.tokens if token.kind != "p"),
    )


def trigrams_of(norms: Sequence[str]) -> frozenset[str]:
    """The letter trigrams, word boundaries included."""
    text = f" {' '.join(norms)} "
    return frozenset(text[i : i + 3] for i in range(len(text) - 2))
