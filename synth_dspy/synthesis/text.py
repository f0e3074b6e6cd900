"""Comparing short texts: content words and their F1, shared n-grams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from synth_dspy.core.text import overlap_f1, parse


@lru_cache(maxsize=8192)
def tokens(text: str) -> tuple[str, ...]:
    """All words and numbers in one spelling, without punctuation."""
    return tuple(token.norm for token in parse(text).tokens if token.kind != "p")


@lru_cache(maxsize=8192)
def content(text: str) -> tuple[str, ...]:
    """Words and numbers that carry content, in one spelling."""
    parsed = parse(text)
    return tuple(parsed.tokens[i].norm for i in parsed.words)


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text, words for numbers included."""
    return frozenset(number_counts(text))


def number_counts(text: str) -> Counter[str]:
    """How often a text says each number, in figures or words."""
    return Counter(token.norm for token in parse(text).tokens if token.kind == "n")


def content_f1(text: str, reference: str) -> float:
    """F1 of the content words of two texts in one spelling, in [0, 1]; 0.0 for a text without any.

    Where the metric `token_f1` compares words as SQuAD does, "two (2) years" and "2 years" are the same here.
    """
    ours = Counter(content(text))
    return overlap_f1(ours, Counter(content(reference))) if ours else 0.0


def ngrams(words: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    """All runs of n words; of a text that is shorter, the text itself."""
    if len(words) < n:
        return frozenset([tuple(words)] if words else [])
    return frozenset(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def jaccard(ours: frozenset[tuple[str, ...]], theirs: frozenset[tuple[str, ...]]) -> float:
    """Size of the intersection over the size of the union, in [0, 1]."""
    union = len(ours | theirs)
    return len(ours & theirs) / union if union else 0.0
