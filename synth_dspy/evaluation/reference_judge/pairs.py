"""What the cross-encoder reads: a reference after its question, and the answer, both cut to what matters.

Where the answer holds the whole reference, word for word, what decides is how it is said: "Quite the reverse of X."
The mention is then blanked out on both sides, so that one phrasing is the same text whatever it is about (after the
entity markers of relation extraction, Zhang et al., 2017). Else both are read as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.text import STOPWORDS, Text, parse
from synth_dspy.evaluation.reference_judge.features import AnswerComparison

BLANK = "X"
_QUESTION_WORDS, _REFERENCE_WORDS, _BEFORE, _AFTER = 18, 26, 16, 10


class Pair(NamedTuple):
    """Two texts for the cross-encoder. `blanked`: the mention was taken out, and only the words around it are read."""

    first: str
    second: str
    blanked: bool


class PairScorer(Protocol):
    """What the judge needs of a cross-encoder."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]: ...


READING_FEATURES = ("read_stated", "read_same")
"""The cross-encoder's log-odds that the answer is right: of a blanked pair, and of one read as it is."""


def reading_features(
    questions: Sequence[str], comparisons: Sequence[AnswerComparison], reader: PairScorer
) -> NDArray[np.float64]:
    """What the cross-encoder says of each answer, shape (answers, len(READING_FEATURES)); NaN for the other reading."""
    pairs = [pair(question, comparison) for question, comparison in zip(questions, comparisons, strict=True)]
    places = {two: i for i, two in enumerate(dict.fromkeys(each[:2] for each in pairs))}
    scores = reader.score(list(places)) if places else np.zeros(0, np.float32)
    features = np.full((len(pairs), len(READING_FEATURES)), np.nan)
    for row, each in enumerate(pairs):
        features[row, 0 if each.blanked else 1] = scores[places[each[:2]]]
    return features


def pair(question: str, comparison: AnswerComparison, *, blank: bool = True) -> Pair:
    """An answer and its closest reference as the cross-encoder reads them; `blank`: mentions may be blanked out."""
    asked = " ".join(question.split()[:_QUESTION_WORDS])
    if comparison.mentions and blank:
        return Pair(_first(asked, BLANK), _plain(_blanked(comparison)), True)
    around = comparison.span[0] if comparison.span else 0
    answer, tokens = comparison.answer, comparison.answer.tokens
    start, end = max(0, around - _BEFORE), min(len(tokens), around + _REFERENCE_WORDS)
    said = answer.text[tokens[start].start : tokens[end - 1].end] if tokens else answer.text
    return Pair(_first(asked, _densest(parse(comparison.reference), answer)), _plain(said), False)


def _first(question: str, reference: str) -> str:
    return f"{_plain(question)} [SEP] {_plain(reference)}"


def _plain(text: str) -> str:
    """Without what the tokenizer would take for a mark of its own."""
    return " ".join(text.replace("[", "(").replace("]", ")").split())


def _blanked(comparison: AnswerComparison) -> str:
    answer, tokens = comparison.answer, comparison.answer.tokens
    first = comparison.mentions[0]
    low, high = max(0, first[0] - _BEFORE), min(len(tokens) - 1, first[1] + _AFTER)
    pieces, place = [], tokens[low].start
    for start, end in comparison.mentions:
        if start < low or end > high:
            continue
        begin, finish = tokens[start].start, tokens[end].end
        if start > low and tokens[start - 1].norm in "$£€" and tokens[start - 1].norm in comparison.reference:
            begin = tokens[start - 1].start
        if end < high and tokens[end + 1].norm == "%" and "%" in comparison.reference:
            finish = tokens[end + 1].end
        owner = answer.text[tokens[end].start : finish].lower().endswith("'s")
        pieces += [answer.text[place : max(place, begin)], BLANK, "'s" if owner else ""]
        place = max(place, finish)
    return "".join(pieces) + answer.text[place : tokens[high].end + 1]


def _densest(reference: Text, answer: Text) -> str:
    """The reference, or the stretch of a long one that shares most words with the answer."""
    tokens = reference.tokens
    if len(tokens) <= _REFERENCE_WORDS:
        return reference.text
    shared = {token.norm for token in answer.tokens if token.kind != "p"} - STOPWORDS
    hits = [token.norm in shared for token in tokens]
    best = max(range(len(tokens) - _REFERENCE_WORDS + 1), key=lambda i: (sum(hits[i : i + _REFERENCE_WORDS]), -i))
    return reference.text[tokens[best].start : tokens[best + _REFERENCE_WORDS - 1].end]
