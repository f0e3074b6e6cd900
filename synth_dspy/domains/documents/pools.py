"""Chunks that are searched together: all of a document, or of all documents.

A pool of moderate size compares a question with every chunk. That of a large collection has Chroma's HNSW graph give
the nearest, and scores these and the best of the lexical search as if it had compared with all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.config import Retrieval
from synth_dspy.core.knowledge import Passage
from synth_dspy.domains.documents.chunks import Chunk
from synth_dspy.domains.documents.lexical import BM25

if TYPE_CHECKING:
    from synth_dspy.core.protocols import Embedder, Vectors

GLIMPSE_WORDS: Final = 20  # for any other: one chunk of about this size, so that whose contract it is can be seen
_NEIGHBOUR: Final = 0.35  # how much of its neighbours' scores a chunk gets
_FRONT: Final = 30  # chunks in which the preamble is looked for: it follows covers and tables of contents
_CANDIDATES: Final = 100  # least number of chunks that each of the two searches of a large collection gives
_SAMPLE: Final = 4096  # chunks that a large collection's mean and spread are measured on
# Words of a preamble: "This Agreement is made and entered into as of 1 May 2020 by and between ..."
_PREAMBLE_CUES: Final = re.compile(
    r"\b(?:between|by and among|hereinafter|(?:is|are|was|hereby) (?:made|entered|dated)|witnesseth|as of (?:this|the)|"
    r"(?:made|entered) (?:and|into|as of|on|this|by)|dated (?:as of|this|the)|effective (?:as of|date))\b",
    re.I,
)


Text = tuple[str, NDArray[np.float32], float]
"""What is searched for: words, embedding, weight."""


class SearchableIndex(Protocol):
    """What is needed of an index; `generation` changes with what it holds."""

    embedder: Embedder
    generation: int

    def __len__(self) -> int: ...
    def chunks(self, document: str | None = None) -> tuple[list[Chunk], Vectors]: ...
    def all_chunks(self) -> list[Chunk]: ...
    def vectors(self, ids: Sequence[str]) -> Vectors: ...
    def nearest(self, vector: NDArray[np.float32], count: int) -> list[str]: ...


class Pool:
    """Chunks that are searched together, with what scoring them needs."""

    def __init__(self, chunks: list[Chunk], vectors: Vectors) -> None:
        self.chunks = chunks
        self.vectors = vectors
        self.bm25 = BM25([chunk.text for chunk in chunks])
        self.preamble = self._find_preamble()
        # whether the next chunk belongs to the same document; shape (chunks - 1,)
        self.is_followed = np.array([a.document == b.document for a, b in pairwise(chunks)], dtype=bool)

    def search(self, texts: Sequence[Text], words: int, preamble: int, settings: Retrieval) -> list[Passage]:
        """Passages of at most so many words, `preamble` of them of the document's preamble, in the documents' order."""
        if not self.chunks:
            return []
        scores = self._with_neighbours(self.scores(texts, settings.lexical, words))
        chosen = self._select(scores, words, preamble, settings.chunks)
        return self._passages(sorted(chosen), scores)

    def scores(self, texts: Sequence[Text], lexical: float, words: int) -> NDArray[np.float32]:
        """Fused scores, shape (chunks,). Dense and lexical scores are put on one scale before each weighted sum.

        Args:
            texts: What is searched for.
            lexical: Weight of the lexical score against the dense one.
            words: How many words of passages the scores are for; -inf may stand for chunks that are not among them.
        """
        dense = sum(weight * standardised(self.vectors @ vector) for _, vector, weight in texts)
        return (1 - lexical) * standardised(dense) + lexical * self.lexical_scores(texts)

    def lexical_scores(self, texts: Sequence[Text]) -> NDArray[np.float32]:
        """BM25 of the texts, on one scale; shape (chunks,)."""
        return standardised(sum(weight * standardised(self.bm25.scores(text)) for text, _, weight in texts))

    def _with_neighbours(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        out = scores.copy()
        positive = np.maximum(scores, 0.0)
        out[:-1] += _NEIGHBOUR * np.where(self.is_followed, positive[1:], 0.0)
        out[1:] += _NEIGHBOUR * np.where(self.is_followed, positive[:-1], 0.0)
        return out

    def _select(self, scores: NDArray[np.float32], words: int, preamble: int, most: int | None) -> set[int]:
        """Indices of the chunks that fill the budget: the preamble, then by score."""
        chosen: set[int] = set()
        used = 0

        def take(row: int, bound: int) -> None:
            nonlocal used
            if row not in chosen and used + (words := self._added_words(row, chosen)) <= bound:
                chosen.add(row)
                used += words

        for row in self._preamble_chunks(preamble):
            take(row, preamble if chosen else words)
        there = np.flatnonzero(np.isfinite(scores))
        for row in map(int, there[np.argsort(-scores[there], kind="stable")]):
            if most is not None and len(chosen) >= most:
                break
            take(row, words)
        return chosen

    def _added_words(self, row: int, chosen: set[int]) -> int:
        """Words that a chunk adds to those chosen: what neighbours repeat of one another counts once."""
        chunk, words = self.chunks[row], self.chunks[row].words
        if chunk.repeated and row - 1 in chosen:
            words -= chunk.repeated
        if row + 1 in chosen and self.is_followed[row]:
            words -= self.chunks[row + 1].repeated
        return words

    def _preamble_chunks(self, words: int) -> list[int]:
        if words == 0 or not self.preamble:
            return []
        if words > GLIMPSE_WORDS:
            return self.preamble
        return [min(self.preamble, key=lambda i: abs(self.chunks[i].words - GLIMPSE_WORDS))]

    def _find_preamble(self) -> list[int]:
        """The chunks of the preamble, the most informative first: its best match, the neighbours, the first chunk."""
        cues = [len(_PREAMBLE_CUES.findall(chunk.text)) for chunk in self.chunks[:_FRONT]]
        if not cues:
            return []
        # A preamble may span two chunks; of two equal matches the earlier is the better guess.
        best = max(range(len(cues)), key=lambda i: sum(cues[i : i + 2]) - 0.15 * i)
        order = [best, best - 1, best + 1, 0, best + 2]
        return [i for i in dict.fromkeys(order) if 0 <= i < len(cues)]

    def _passages(self, rows: list[int], scores: NDArray[np.float32]) -> list[Passage]:
        runs: list[list[int]] = []
        for row in rows:
            chunk, before = self.chunks[row], self.chunks[runs[-1][-1]] if runs else None
            if before and before.document == chunk.document and before.position + 1 == chunk.position:
                runs[-1].append(row)
            else:
                runs.append([row])
        return [
            Passage(
                id=self.chunks[run[0]].id,
                document=self.chunks[run[0]].document,
                text="\n".join([self.chunks[run[0]].text, *(self.chunks[row].own_text for row in run[1:])]),
                score=float(max(scores[row] for row in run)),
                position=self.chunks[run[0]].position,
            )
            for run in runs
        ]


class GraphPool(Pool):
    """All chunks of an index whose vectors stay in it.

    A dense score on one scale needs the mean and the spread of all cosines to a question q. They follow from the
    vectors' mean m and covariance S, as q.m and sqrt(q.S.q), which are measured once, on a sample: the chunks with the
    first ids, which are hashes. So the chunks that both searches give have the scores that comparing with all would
    give them, up to the sample's error.
    """

    def __init__(self, index: SearchableIndex) -> None:
        chunks = index.all_chunks()
        super().__init__(chunks, np.zeros((0, 0), dtype=np.float32))
        self._index = index
        self._rows = {chunk.id: row for row, chunk in enumerate(chunks)}
        sample = index.vectors(sorted(self._rows)[:_SAMPLE])
        self._mean = sample.mean(axis=0)
        self._covariance = np.cov(sample.T, bias=True).astype(np.float32)

    def scores(self, texts: Sequence[Text], lexical: float, words: int) -> NDArray[np.float32]:
        """As a pool's, -inf for chunks that neither search gives and that stand beside none of those."""
        count = min(len(self.chunks), max(_CANDIDATES, words // 4))
        # The sum of scaled cosines is a cosine to the scaled sum: one search for the question and its wording.
        query = np.sum([weight / self._spread(vector) * vector for _, vector, weight in texts], axis=0)
        by_words = self.lexical_scores(texts)
        nearest = [self._rows[id] for id in self._index.nearest(query, count) if id in self._rows]
        best = np.argpartition(-by_words, count - 1)[:count]
        candidates = np.union1d(nearest, best).astype(int)
        rows = np.unique(np.concatenate([candidates, candidates - 1, candidates + 1]).clip(0, len(self.chunks) - 1))
        vectors = self._index.vectors([self.chunks[row].id for row in rows])
        dense = (vectors @ query - self._mean @ query) / self._spread(query)
        scores = np.full(len(self.chunks), -np.inf, dtype=np.float32)
        scores[rows] = (1 - lexical) * dense + lexical * by_words[rows]
        return scores

    def _spread(self, vector: NDArray[np.float32]) -> float:
        return math.sqrt(max(float(vector @ self._covariance @ vector), 1e-12))


def standardised(scores: NDArray[np.float32] | float) -> NDArray[np.float32]:
    scores = np.asarray(scores, dtype=np.float32)
    spread = float(scores.std())
    return (scores - scores.mean()) / spread if spread > 1e-6 else np.zeros_like(scores)
