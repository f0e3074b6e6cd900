"""Lexical search: Okapi BM25 (Robertson & Zaragoza 2009, k1 = 1.2, b = 0.75) over the chunks of one pool."""

from __future__ import annotations

import re
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
        counts = [Counter(tokens(text)) for text in texts]
        lengths = np.array([max(sum(count.values()), 1) for count in counts], dtype=np.float32)
        norms = _K1 * (1 - _B + _B * lengths / lengths.mean()) if len(texts) else lengths
        postings: defaultdict[str, list[int]] = defaultdict(list)
        for row, count in enumerate(counts):
            for token in count:
                postings[token].append(row)
        self._size = len(texts)
        self._weights: dict[str, tuple[NDArray[np.intp], NDArray[np.float32]]] = {}
        for token, rows in postings.items():
            tf = np.array([counts[row][token] for row in rows], dtype=np.float32)
            idf = np.log1p((self._size - len(rows) + 0.5) / (len(rows) + 0.5))
            where = np.array(rows, dtype=np.intp)
            self._weights[token] = (where, (idf * tf * (_K1 + 1) / (tf + norms[where])).astype(np.float32))

    def scores(self, query: str) -> NDArray[np.float32]:
        """The score of every text, shape (texts,); 0 where no word of the query occurs."""
        scores = np.zeros(self._size, dtype=np.float32)
        for token in set(tokens(query)):
            if token in self._weights:
                where, weight = self._weights[token]
                scores[where] += weight
        return scores
