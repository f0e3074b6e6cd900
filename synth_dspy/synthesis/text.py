"""Comparison of short texts: content words and their F1, n-grams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from synth_dspy.core.text import overlap_f1, parse


@lru_cache(maxsize=8192)
def tokens(text: str) -> tuple[str, ...]:
    """All words and numbers, normalised, without punctuation."""
    return tuple(token.norm for token in parse(text).tokens if token.kind != "p")


@lru_cache(maxsize=8192)
def content(text: str) -> tuple[str, ...]:
    """The content words and numbers, normalised."""
    parsed = parse(text)
    return tuple(parsed.tokens[i].norm for i in parsed.words)


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text, including number words."""
    return frozenset(number_counts(text))


def number_counts(text: str) -> Counter[str]:
    """Counts of the numbers in a text, in figures or words."""
    return Counter(token.norm for token in parse(text).tokens if token.kind == "n")


def content_f1(text: str, reference: str) -> float:
    """F1 of the normalised content words of two texts, in [0, 1]; 0.0 for a text without any.

    Unlike the metric `token_f1`, which compares words as SQuAD does, it treats "two (2) years" and "2 years" as equal.
    """
    ours = Counter(content(text))
    return overlap_f1(ours, Counter(content(reference))) if ours else 0.0


def ngrams(words: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    """All n-grams of the words; a shorter text is one n-gram."""
    if len(words) < n:
        return frozenset([tuple(words)] if words else [])
    return frozenset(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def jaccard(ours: frozenset[tuple[str, ...]], theirs: frozenset[tuple[str, ...]]) -> float:
    """Size of the intersection over the size of the union, in [0, 1]."""
    union = len(ours | theirs)
    return len(ours & theirs) / union if union else 0.0
