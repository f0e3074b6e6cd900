"""Retrieval: the passages of a document (or of all) that most likely answer a question, within a word budget.

Dense similarity and BM25 are fused into one score per chunk, chunks are taken by score until the budget is full, and
neighbours are joined into passages in the document's order. A document's preamble names its parties, title and date in
words that resemble no question, so a search within one document always returns some of the preamble, and more of it
for questions about such things.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from synth_dspy.core.config import Retrieval
from synth_dspy.core.knowledge import Document, Passage
from synth_dspy.domains.documents.names import Names
from synth_dspy.domains.documents.pools import GLIMPSE_WORDS, GraphPool, Pool, SearchableIndex

PASSAGE_WORDS: Final = 350
PREAMBLE_WORDS: Final = 150  # for a question that the preamble may answer
_POOLS: Final = 64  # documents whose chunks are cached
_EMBEDDED: Final = 4096  # searches whose embeddings are cached: all arms of a run ask the same questions

_ABOUT_PREAMBLE: Final = re.compile(
    r"\b(?:who|whom|whose|names?|named|called|titles?|parties|dates?|dated|made|signed|entered|effective)\b", re.I
)


class Documents(Protocol):
    """The documents behind an index, over which another one can be opened; see `opening.Collection`."""

    @property
    def folder(self) -> Path: ...
    @property
    def documents(self) -> Sequence[Document]: ...
    def retriever(self, settings: Retrieval) -> Retriever: ...


class Retriever:
    """Searches an index. It follows the index's updates, and may be used from several threads.

    Args:
        index: The index; its embedder embeds the queries.
        preamble: Most words of a document's preamble that a search within the document returns.
        wording: From a question to the language of documents that answer it, which is searched for too; or None.
        settings: Weights and bounds. None: the defaults.
        collection: The indexed documents, for a search for better settings.
    """

    def __init__(
        self,
        index: SearchableIndex,
        preamble: int = PREAMBLE_WORDS,
        wording: Callable[[str], str] | None = None,
        settings: Retrieval | None = None,
        collection: Documents | None = None,
    ) -> None:
        self.index = index
        self.preamble = preamble
        self.wording = wording or (lambda question: "")
        self.settings = settings or Retrieval()
        self.collection = collection
        self._names = None if collection is None else Names(collection.documents)
        self._text = lru_cache(maxsize=256)(lambda document: "\n".join(c.own_text for c in index.chunks(document)[0]))
        self._pools: OrderedDict[tuple[int, str | None], Pool] = OrderedDict()
        # Keyed by all texts of a search: in another batch a text's vector may differ in the last bit.
        self._embed = lru_cache(_EMBEDDED)(lambda texts: index.embedder.embed(texts))

    def with_settings(self, settings: Retrieval) -> Retriever:
        """The same search, over the same chunks, with other weights and bounds."""
        other = copy.copy(self)
        other.settings = settings
        return other

    def __deepcopy__(self, memo: dict[int, object]) -> Retriever:
        return self  # copies of a program search the same index

    def search(
        self, query: str, document: str | None = None, words: int = PASSAGE_WORDS, wording: str = ""
    ) -> list[Passage]:
        """Passages for one question.

        Args:
            query: The question.
            document: Search this document only. None: all.
            words: Most words of the passages together.
            wording: Language in which the document may answer it, searched for besides the task's own.

        Returns:
            Passages in the order of the document; over all documents, the best first. Empty for a document that
            is not in the index.
        """
        return self.search_many([query], [document], words, [wording])[0]

    def search_many(
        self,
        queries: Sequence[str],
        documents: Sequence[str | None] | None = None,
        words: int = PASSAGE_WORDS,
        wordings: Sequence[str] | None = None,
    ) -> list[list[Passage]]:
        """As `search`, for many questions whose embeddings are computed together.

        Args:
            queries: The questions.
            documents: One document id (or None) for each. None: all documents for every question.
            words: Most words for each question.
            wordings: Further wording for each; "" or None: none.
        """
        where = [None] * len(queries) if documents is None else list(documents)
        if not queries:
            return []
        searched = [self._weights(*each) for each in zip(queries, wordings or [""] * len(queries), strict=True)]
        texts = tuple(dict.fromkeys([*queries, *(text for weights in searched for text in weights)]))
        vectors = dict(zip(texts, self._embed(texts), strict=True))
        results = []
        for query, weights, document in zip(queries, searched, where, strict=True):
            weighted = [(text, vectors[text], weight) for text, weight in weights.items()]
            preamble = self._preamble_words(query, words) if document is not None else 0
            passages = self._pool(document).search(weighted, words, preamble, self.settings)
            if document is None:
                passages.sort(key=lambda passage: -passage.score)
            results.append(passages)
        return results

    def documents(self) -> list[str]:
        """The ids of all documents, sorted."""
        return sorted({chunk.document for chunk in self.index.all_chunks()})

    def id_of(self, name: str) -> str:
        """The id of a document that is called by its id, its path or its file's name.

        Raises:
            ValueError: there is none, or several are called that; a clause that says which there are.
        """
        if self._names is None:
            return name
        if (found := self._names.find(name)) is None:
            raise ValueError(self._names.problem(name))
        return found

    def text(self, document: str) -> str:
        """The whole text of a document, "" for one that is not in the index."""
        return self._text(document)

    def _weights(self, query: str, further: str) -> dict[str, float]:
        """The texts that are searched for, and their weights: the question, and its wordings if there are any."""
        own = self.wording(query) if self.settings.wording else ""
        wordings = [text for text in dict.fromkeys((own, further)) if text and text != query]
        if not wordings:
            return {query: 1.0}
        share = self.settings.wording or Retrieval().wording
        return {query: 1 - share} | dict.fromkeys(wordings, share / len(wordings))

    def _preamble_words(self, query: str, words: int) -> int:
        wanted = self.preamble if _ABOUT_PREAMBLE.search(query) else min(self.preamble, GLIMPSE_WORDS)
        return min(wanted, words // 2)

    def _pool(self, document: str | None) -> Pool:
        key = (self.index.generation, document)
        pool = self._pools.get(key)
        if pool is None:
            if document is None and len(self.index) > self.settings.exact:
                pool = GraphPool(self.index)
            else:
                pool = Pool(*self.index.chunks(document))
            self._pools[key] = pool
            while len(self._pools) > _POOLS:
                self._pools.popitem(last=False)
        return pool
