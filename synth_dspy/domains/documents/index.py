"""The index: chunks with their embeddings in a Chroma collection, updated with the documents.

Every chunk has its document's version and that version's number of chunks. The collection itself is the only record of
what is indexed: after a crash, the next update sees which chunks of a document are missing and embeds just those.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from httpx import HTTPError
from numpy.typing import NDArray

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.chunks import CHUNK_WORDS, Chunk, chunk_document
from synth_dspy.domains.documents.collection import open_collection

if TYPE_CHECKING:
    from synth_dspy.core.protocols import Embedder

EF_SEARCH: Final = 200
_BATCH: Final = 512  # chunks embedded and written at a time, and so the most that a crash can lose
_READ: Final = 1000  # chunks that are read by their ids at a time
_CUT: Final = 2  # raise when chunk_document changes, so that older indexes are updated

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class IndexStats:
    """The result of an update: numbers of documents, of chunks embedded now and of chunks in the index; seconds."""

    added: int
    changed: int
    unchanged: int
    removed: int
    embedded: int
    chunks: int
    seconds: float


class Index:
    """A persistent collection of embedded chunks, one per embedder, in a folder or on a server.

    Args:
        folder: Chroma's folder, made if it does not exist.
        embedder: Embeds chunks here and queries in the retriever. Another embedder gets another collection.
        words: Most words in a chunk.
        overlap: How many of them repeat the end of the chunk before.
        ef_search: How many candidates a search of Chroma's graph keeps; see `nearest`.
        chroma: Address of a Chroma server that keeps the collection. None: Chroma in this process.

    Raises:
        SetupError: If the folder cannot be opened as an index, or no Chroma answers at the address.
    """

    def __init__(
        self,
        folder: Path,
        embedder: Embedder,
        words: int = CHUNK_WORDS,
        overlap: int = 0,
        *,
        ef_search: int = EF_SEARCH,
        chroma: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.embedder = embedder
        self.words = words
        self.overlap = overlap
        self.generation = 0  # counts updates, so that a retriever knows when its cache is stale
        self._place = chroma or self.folder
        self._collection = open_collection(self.folder, embedder.name, ef_search=ef_search, chroma=chroma)

    def update(self, documents: Iterable[Document], progress: Progress | None = None) -> IndexStats:
        """Update the index to `documents`: embed new and changed chunks, delete the others.

        Args:
            documents: All documents of the index.
            progress: Called with (chunks embedded so far, chunks to embed).

        Returns:
            What changed. A chunk with unchanged text is not embedded again, even in a changed document.

        Raises:
            SetupError: If the index cannot be written, for example because the disk is full.
        """
        start = time.perf_counter()
        wanted = {document.id: document for document in documents}
        indexed = self._indexed_documents()
        unchanged = {
            id for id, document in wanted.items() if indexed.get(id, _ABSENT).is_complete(self._version(document))
        }
        todo = [document for id, document in wanted.items() if id not in unchanged]
        indexed_chunks = {chunk for id in indexed for chunk in indexed[id].chunks}
        stale = {chunk for id in indexed.keys() - unchanged for chunk in indexed[id].chunks}
        fresh: list[tuple[Chunk, dict[str, Any]]] = []
        moved: list[tuple[Chunk, dict[str, Any]]] = []
        for document in todo:
            chunks = chunk_document(document, self.words, self.overlap)
            for chunk in chunks:
                meta = {
                    "document": document.id,
                    "position": chunk.position,
                    "version": self._version(document),
                    "of": len(chunks),
                }
                if chunk.repeated:
                    meta["repeated"] = chunk.repeated
                (moved if chunk.id in indexed_chunks else fresh).append((chunk, meta))
                stale.discard(chunk.id)
        # New chunks go in first, and old ones go out last: a crash in between leaves documents incomplete or
        # with chunks of two versions, never one that looks complete and is not.
        for i in range(0, len(fresh), _BATCH):
            batch = fresh[i : i + _BATCH]
            texts = [chunk.text for chunk, _ in batch]
            self._write(
                self._collection.upsert,
                ids=[chunk.id for chunk, _ in batch],
                documents=texts,
                embeddings=self.embedder.embed(texts),
                metadatas=[meta for _, meta in batch],
            )
            if progress:
                progress(min(i + _BATCH, len(fresh)), len(fresh))
        for i in range(0, len(moved), _BATCH):
            batch = moved[i : i + _BATCH]
            self._write(
                self._collection.update,
                ids=[chunk.id for chunk, _ in batch],
                metadatas=[meta for _, meta in batch],
            )
        gone = sorted(stale)
        for i in range(0, len(gone), _BATCH):
            self._write(self._collection.delete, ids=gone[i : i + _BATCH])
        self.generation += 1
        return IndexStats(
            added=sum(document.id not in indexed for document in todo),
            changed=sum(document.id in indexed for document in todo),
            unchanged=len(unchanged),
            removed=len(indexed.keys() - wanted.keys()),
            embedded=len(fresh),
            chunks=int(self._collection.count()),
            seconds=time.perf_counter() - start,
        )

    def __len__(self) -> int:
        return int(self._collection.count())

    def chunks(self, document: str | None = None) -> tuple[list[Chunk], Vectors]:
        """The chunks of one document (or of all) in order, and their embeddings, float32 of shape (chunks, d)."""
        where = {"document": document} if document is not None else None
        records = self._read(where=where, include=["documents", "metadatas", "embeddings"])
        chunks = _chunks(records)
        order = sorted(range(len(chunks)), key=lambda row: (chunks[row].document, chunks[row].position))
        vectors = np.asarray([records["embeddings"][row] for row in order], dtype=np.float32)
        return [chunks[row] for row in order], vectors

    def all_chunks(self) -> list[Chunk]:
        """All chunks in order, without their embeddings, which are most of an index."""
        chunks = _chunks(self._read(include=["documents", "metadatas"]))
        return sorted(chunks, key=lambda chunk: (chunk.document, chunk.position))

    def vectors(self, ids: Sequence[str]) -> Vectors:
        """The embeddings of chunks by their ids, float32 of shape (ids, d)."""
        out = np.zeros((len(ids), self.embedder.dimension), dtype=np.float32)
        rows = {id: row for row, id in enumerate(ids)}
        for i in range(0, len(ids), _READ):
            records = self._read(ids=list(ids[i : i + _READ]), include=["embeddings"])
            out[[rows[id] for id in records["ids"]]] = records["embeddings"]
        return out

    def nearest(self, vector: NDArray[np.float32], count: int) -> list[str]:
        """The ids of the chunks whose embeddings have the highest cosine to a vector, approximately.

        Chroma searches a hierarchical navigable small-world graph (Malkov & Yashunin, arXiv:1603.09320): in it, the
        `ef_search` best candidates seen so far are followed, and some of the nearest may be missed.

        Args:
            vector: Of shape (d,), of any length but 0.
            count: How many.
        """
        query = (vector / np.linalg.norm(vector)).astype(np.float32)
        records = self._ask(
            self._collection.query, query_embeddings=[query], n_results=min(count, max(1, len(self))), include=[]
        )
        return list(records["ids"][0])

    def _read(self, **what: Any) -> Any:
        return self._ask(self._collection.get, **what)

    def _ask(self, ask: Callable[..., Any], **what: Any) -> Any:
        from chromadb.errors import ChromaError

        try:
            return ask(**what)
        except (ChromaError, OSError, ValueError, HTTPError) as error:
            raise SetupError(
                f"The index in {self._place} cannot be read: {error}; start its server, or delete the folder "
                f"{self.folder} to rebuild it."
            ) from error

    def _write(self, write: Callable[..., Any], **rows: Any) -> None:
        from chromadb.errors import ChromaError

        try:
            write(**rows)
        except (ChromaError, OSError, HTTPError) as error:
            raise SetupError(
                f"The index in {self._place} cannot be written: {error}; make room on the disk, or delete the folder "
                f"{self.folder} to rebuild it."
            ) from error

    def _version(self, document: Document) -> str:
        cut = f"{_CUT}\n{self.words}" + (f"\n{self.overlap}" if self.overlap else "")
        return hashlib.sha256(f"{cut}\n{document.text}".encode()).hexdigest()[:16]

    def _indexed_documents(self) -> dict[str, _IndexedDocument]:
        """The indexed chunks, by document."""
        records = self._read(include=["metadatas"])
        indexed: defaultdict[str, _IndexedDocument] = defaultdict(_IndexedDocument)
        for id, meta in zip(records["ids"], records["metadatas"], strict=True):
            entry = indexed[meta["document"]]
            entry.chunks.append(id)
            entry.versions[meta["version"], meta["of"]] += 1
        return dict(indexed)


def _chunks(records: Any) -> list[Chunk]:
    return [
        Chunk(id, meta["document"], text, meta["position"], len(text.split()), meta.get("repeated", 0))
        for id, text, meta in zip(records["ids"], records["documents"], records["metadatas"], strict=True)
    ]


class _IndexedDocument:
    """The indexed chunks of one document, and how many there are of each (version, size)."""

    def __init__(self) -> None:
        self.chunks: list[str] = []
        self.versions: Counter[tuple[str, int]] = Counter()

    def is_complete(self, version: str) -> bool:
        return len(self.versions) == 1 and all(v == version and n == of for (v, of), n in self.versions.items())


_ABSENT: Final = _IndexedDocument()
