"""Retrieval: the passages of a document (or of all) that most likely answer a question, within a word budget.

Dense similarity and BM25 are fused into one score per chunk, chunks are taken by score until the budget is full, and
neighbours are joined into passages in the document's order. A document's preamble names its parties, title and date in
words that resemble no question, so a search within one document always returns some of the preamble, and more of it
for questions about such things.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.knowledge import Passage
from synth_dspy.domains.documents.chunks import Chunk
from synth_dspy.domains.documents.index import Index, Vectors
from synth_dspy.domains.documents.lexical import BM25

PASSAGE_WORDS: Final = 350
PREAMBLE_WORDS: Final = 150  # for a question that the preamble may answer
GLIMPSE_WORDS: Final = 20  # for others: one chunk of about this size, which shows whose contract it is
_DENSE: Final = 0.5  # weight of the dense score relative to the lexical one
_WORDING: Final = 0.6  # weight of the documents' wording relative to the question's own
_NEIGHBOUR: Final = 0.35  # share of its neighbours' scores that a chunk gets
_POOLS: Final = 64  # documents whose chunks are cached
_EMBEDDED: Final = 4096  # searches whose embeddings are cached: all arms of a run ask the same questions
_FRONT: Final = 30  # chunks in which the preamble is looked for: it follows covers and tables of contents

_ABOUT_PREAMBLE: Final = re.compile(
    r"\b(?:who|whom|whose|names?|named|called|titles?|parties|dates?|dated|made|signed|entered|effective)\b", re.I
)
# Words of a preamble: "This Agreement is made and entered into as of 1 May 2020 by and between ..."
_PREAMBLE_CUES: Final = re.compile(
    r"\b(?:between|by and among|hereinafter|(?:is|are|was|hereby) (?:made|entered|dated)|witnesseth|as of (?:this|the)|"
    r"(?:made|entered) (?:and|into|as of|on|this|by)|dated (?:as of|this|the)|effective (?:as of|date))\b",
    re.I,
)


class Retriever:
    """Searches an index. It follows the index's updates, and may be used from several threads.

    Args:
        index: The index; its embedder embeds the queries.
        preamble: Most words of a document's preamble that a search within the document returns.
        wording: From a question to the language of documents that answer it, which is searched for too; or None.
    """

    def __init__(
        self, index: Index, preamble: int = PREAMBLE_WORDS, wording: Callable[[str], str] | None = None
    ) -> None:
        self.index = index
        self.preamble = preamble
        self.wording = wording or (lambda question: "")
        self._text = lru_cache(maxsize=256)(lambda document: "\n".join(c.text for c in index.chunks(document)[0]))
        self._pools: OrderedDict[tuple[int, str | None], _Pool] = OrderedDict()
        # Keyed by all texts of a search: in another batch a text's vector may differ in the last bit.
        self._embed = lru_cache(_EMBEDDED)(lambda texts: index.embedder.embed(texts))

    def __deepcopy__(self, memo: dict[int, object]) -> Retriever:
        return self  # copies of a program search the same index

    def search(self, query: str, document: str | None = None, words: int = PASSAGE_WORDS) -> list[Passage]:
        """Passages for one question.

        Args:
            query: The question.
            document: Search this document only. None: all.
            words: Most words of the passages together.

        Returns:
            Passages in the order of the document; over all documents, the best first. Empty for a document that
            is not in the index.
        """
        return self.search_many([query], [document], words)[0]

    def search_many(
        self, queries: Sequence[str], documents: Sequence[str | None] | None = None, words: int = PASSAGE_WORDS
    ) -> list[list[Passage]]:
        """As `search`, for many questions whose embeddings are computed together.

        Args:
            queries: The questions.
            documents: One document id (or None) for each. None: all documents for every question.
            words: Most words for each question.
        """
        where = [None] * len(queries) if documents is None else list(documents)
        if not queries:
            return []
        wordings = [self.wording(query) for query in queries]
        texts = tuple(dict.fromkeys([*queries, *filter(None, wordings)]))
        vectors = dict(zip(texts, self._embed(texts), strict=True))
        results = []
        for query, wording, document in zip(queries, wordings, where, strict=True):
            weighted = [(text, vectors[text], weight) for text, weight in _weighted(query, wording)]
            preamble = self._preamble_words(query, words) if document is not None else 0
            passages = self._pool(document).search(weighted, words, preamble)
            if document is None:
                passages.sort(key=lambda passage: -passage.score)
            results.append(passages)
        return results

    def text(self, document: str) -> str:
        """The whole text of a document, "" for one that is not in the index."""
        return self._text(document)

    def _preamble_words(self, query: str, words: int) -> int:
        wanted = self.preamble if _ABOUT_PREAMBLE.search(query) else min(self.preamble, GLIMPSE_WORDS)
        return min(wanted, words // 2)

    def _pool(self, document: str | None) -> _Pool:
        key = (self.index.generation, document)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(*self.index.chunks(document))
            while len(self._pools) > _POOLS:
                self._pools.popitem(last=False)
        return pool


_Text = tuple[str, NDArray[np.float32], float]  # a search text: words, embedding, weight


def _weighted(query: str, wording: str) -> list[tuple[str, float]]:
    return [(query, 1 - _WORDING), (wording, _WORDING)] if wording else [(query, 1.0)]


class _Pool:
    """Chunks that are searched together, with the data to score them."""

    def __init__(self, chunks: list[Chunk], vectors: Vectors) -> None:
        self.chunks = chunks
        self.vectors = vectors
        self.bm25 = BM25([chunk.text for chunk in chunks])
        self.preamble = self._find_preamble()
        # whether the next chunk belongs to the same document; shape (chunks - 1,)
        self.is_followed = np.array([a.document == b.document for a, b in pairwise(chunks)], dtype=bool)

    def search(self, texts: list[_Text], words: int, preamble: int) -> list[Passage]:
        if not self.chunks:
            return []
        scores = self.scores(texts)
        chosen = self._select(scores, words, preamble)
        return self._passages(sorted(chosen), scores)

    def scores(self, texts: list[_Text]) -> NDArray[np.float32]:
        """Fused scores, shape (chunks,). Dense and lexical scores are standardised before each weighted sum."""
        dense = sum(weight * _standardised(self.vectors @ vector) for _, vector, weight in texts)
        lexical = sum(weight * _standardised(self.bm25.scores(text)) for text, _, weight in texts)
        return self._with_neighbours(_DENSE * _standardised(dense) + (1 - _DENSE) * _standardised(lexical))

    def _with_neighbours(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        out = scores.copy()
        positive = np.maximum(scores, 0.0)
        out[:-1] += _NEIGHBOUR * np.where(self.is_followed, positive[1:], 0.0)
        out[1:] += _NEIGHBOUR * np.where(self.is_followed, positive[:-1], 0.0)
        return out

    def _select(self, scores: NDArray[np.float32], words: int, preamble: int) -> set[int]:
        """Indices of the chunks that fill the budget: the preamble, then by score."""
        chosen: set[int] = set()
        used = 0
        for i in self._preamble_chunks(preamble):
            if used + self.chunks[i].words <= (preamble if chosen else words):
                chosen.add(i)
                used += self.chunks[i].words
        for i in map(int, np.argsort(-scores, kind="stable")):
            if i not in chosen and used + self.chunks[i].words <= words:
                chosen.add(i)
                used += self.chunks[i].words
        return chosen

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
                text="\n".join(self.chunks[row].text for row in run),
                score=float(max(scores[row] for row in run)),
                position=self.chunks[run[0]].position,
            )
            for run in runs
        ]


def _standardised(scores: NDArray[np.float32] | float) -> NDArray[np.float32]:
    scores = np.asarray(scores, dtype=np.float32)
    spread = float(scores.std())
    return (scores - scores.mean()) / spread if spread > 1e-6 else np.zeros_like(scores)
