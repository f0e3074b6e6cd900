"""Answer spans: short pieces of a text that a question could ask for, matched by patterns of each kind.

Left to choose, a small teacher writes no sensible question; given an answer and its sentence, it only has to turn the
sentence into a question. The task brings the patterns by kind, such as dates, amounts and parties in contracts.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from synth_dspy.domains.documents.chunks import sentences

Patterns = Mapping[str, re.Pattern[str]]
"""By kind. A pattern's group `answer`, or else its whole match, is the span. Kinds named earlier win overlaps."""

EXCERPT_WORDS = 45


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text from `start` to `end`; `text` is that piece with single spaces."""

    kind: str
    text: str
    start: int
    end: int


def find_spans(text: str, patterns: Patterns) -> list[Span]:
    """The spans of a text in order, without overlaps."""
    spans: list[Span] = []
    for kind, pattern in patterns.items():
        for match in pattern.finditer(text):
            named = "answer" in pattern.groupindex and match.group("answer") is not None
            start, end = match.span("answer" if named else 0)
            at = bisect_left(spans, end, key=lambda span: span.start)
            if start < end and (at == 0 or spans[at - 1].end <= start):
                spans.insert(at, Span(kind, " ".join(text[start:end].split()), start, end))
    return spans


def excerpt(text: str, start: int, end: int, words: int = EXCERPT_WORDS) -> str:
    """The sentences of `text[start:end]`, cut to `words` around it.

    A teacher reads this instead of the whole chunk: it is what the question is about, and takes half the time.
    """
    first, last = _sentences_around(text, start, end)
    left, span, right = text[first:start].split(), text[start:end].split(), text[end:last].split()
    room = max(0, words - len(span))
    # The words that explain a number or a date mostly come before it.
    after = min(len(right), max(room // 3, room - len(left)))
    before = min(len(left), room - after)
    # The span's own punctuation stays attached: "$500, payable" and not "$500 , payable".
    head = " ".join(left[len(left) - before :])
    tail = " ".join(right[:after])
    joined_left = "" if start > 0 and not text[start - 1].isspace() else " "
    joined_right = "" if end < len(text) and not text[end].isspace() else " "
    return (head + joined_left + " ".join(span) + joined_right + tail).strip()


def with_context(text: str, start: int, end: int, before: int = 12, after: int = 6) -> str:
    """`text[start:end]` with up to `before` and `after` words of its own sentences around it."""
    first, last = _sentences_around(text, start, end)
    left, right = text[first:start].split(), text[end:last].split()
    return " ".join([*left[max(0, len(left) - before) :], *text[start:end].split(), *right[:after]])


def _sentences_around(text: str, start: int, end: int) -> tuple[int, int]:
    begins, stops = _bounds(text)
    with_start, with_end = bisect_right(begins, start) - 1, bisect_left(stops, end)
    first = begins[with_start] if with_start >= 0 and start < stops[with_start] else 0
    last = stops[with_end] if with_end < len(stops) and begins[with_end] < end else len(text)
    return first, last


@lru_cache(maxsize=4)  # a document's spans are looked at one after the other
def _bounds(text: str) -> tuple[list[int], list[int]]:
    """Where a text's sentences begin, and where they stop."""
    begins, stops = [], []
    position = 0
    for line in text.splitlines(keepends=True):
        inner = position
        for sentence in sentences(line.rstrip("\n")):
            begins.append(text.index(sentence, inner))
            inner = begins[-1] + len(sentence)
            stops.append(inner)
        position += len(line)
    return begins, stops
