"""Lexical search: Okapi BM25 (Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75) over the chunks of one pool."""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_K1: Final = 1.2
_B: Final = 0.75
_TOKEN: Final = re.compile(r"[a-z]+|\d+(?:[.,]\d+)*")
_STOP: Final = frozenset(
    re.findall(
        r"\w+",
        "a an and any are as at be been but by can could do does did each for from had has have he her his how i if in "
        "into is it its may more must no not of on or our shall she should so some such than that the their them then "
        "there these they this those to under up upon was we were what when where whether which while who whom whose "
        "why will with would you your",
    )
)
_SUFFIX: Final = re.compile(
    r"(?:ational|ations?|ments?|ness|ings?|edly|ed|ies|ely|ly|ers?|ors?|ive|able|ible|ance|ence|es|s|e|y)$"
)


def tokens(text: str) -> list[str]:
    """Lower-cased words without stop words, cut to their roots (terminate, termination, terminating -> termin)."""
    return [_root(word) for word in _TOKEN.findall(text.lower()) if word not in _STOP]


def _root(word: str) -> str:
    """A word without inflection and derivation, at least four letters: cut further than for comparing answers."""
    root = word
    for _ in range(2):
        shorter = _SUFFIX.sub("", root)
        if len(shorter) < 4 or shorter == root:
            break
        root = shorter
    return root


class BM25:
    """An index over `texts`; scores are in their order."""

    def __init__(self, texts: Sequence[str]) -> None:
        lengths = np.ones(len(texts), dtype=np.float32)
        # Compact arrays: a million chunks have some thirty million postings.
        postings: defaultdict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (array("i"), array("i")))
        for row, text in enumerate(texts):
            counts = Counter(tokens(text))
            lengths[row] = max(counts.total(), 1)
            for token, count in counts.items():
                rows, often = postings[token]
                rows.append(row)
                often.append(count)
        norms = _K1 * (1 - _B + _B * lengths / lengths.mean()) if len(texts) else lengths
        self._size = len(texts)
        self._weights: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]] = {}
        while postings:
            token, (rows, often) = postings.popitem()
            tf = np.array(often, dtype=np.float32)
            idf = np.log1p((self._size - len(rows) + 0.5) / (len(rows) + 0.5))
            where = np.array(rows, dtype=np.int32)
            self._weights[token] = (where, (idf * tf * (_K1 + 1) / (tf + norms[where])).astype(np.float32))

    def scores(self, query: str) -> NDArray[np.float32]:
        """The score of every text, shape (texts,); 0 where no word of the query occurs."""
        scores = np.zeros(self._size, dtype=np.float32)
        for token in dict.fromkeys(tokens(query)):  # in order: a sum has the same last bit in every process
            if token in self._weights:
                where, weight = self._weights[token]
                scores[where] += weight
        return scores
