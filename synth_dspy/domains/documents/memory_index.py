"""An index that is kept in memory only: for a search over many ways to cut the same documents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.knowledge import Document
from synth_dspy.core.protocols import Embedder
from synth_dspy.domains.documents.chunks import Chunk, chunk_document
from synth_dspy.domains.documents.index import Vectors


class MemoryIndex:
    """Chunks of a few documents with their embeddings; see `Index`.

    Args:
        documents: all that it holds; they are embedded at once.
        embedder: embeds chunks here and queries in the retriever.
        words: most words in a chunk.
        overlap: how many of them repeat the end of the chunk before.
    """

    def __init__(self, documents: Sequence[Document], embedder: Embedder, words: int, overlap: int) -> None:
        self.embedder = embedder
        self.generation = 0
        ordered = sorted(documents, key=lambda document: document.id)
        self._chunks = [chunk for document in ordered for chunk in chunk_document(document, words, overlap)]
        self._vectors = embedder.embed([chunk.text for chunk in self._chunks])
        self._rows = {chunk.id: row for row, chunk in enumerate(self._chunks)}

    def __len__(self) -> int:
        return len(self._chunks)

    def chunks(self, document: str | None = None) -> tuple[list[Chunk], Vectors]:
        """The chunks of one document (or of all) in order, and their embeddings, float32 of shape (chunks, d)."""
        rows = [row for row, chunk in enumerate(self._chunks) if document is None or chunk.document == document]
        return [self._chunks[row] for row in rows], self._vectors[rows]

    def all_chunks(self) -> list[Chunk]:
        """All chunks in order."""
        return list(self._chunks)

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The embeddings of chunks by their ids, float32 of shape (ids, d)."""
        return self._vectors[[self._rows[id] for id in ids]]

    def nearest(self, vector: NDArray[np.float32], count: int) -> list[str]:
        """The ids of the chunks with the highest cosine to a vector."""
        return [self._chunks[row].id for row in np.argsort(-(self._vectors @ vector), kind="stable")[:count]]
