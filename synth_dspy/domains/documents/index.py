"""The index: chunks with their embeddings in a persistent Chroma collection, updated with the documents.

Every chunk has its document's version and that version's number of chunks. The collection itself is the only record of
what is indexed: after a crash, the next update sees which chunks of a document are missing and embeds just those.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.chunks import CHUNK_WORDS, Chunk, chunk_document

if TYPE_CHECKING:
    from synth_dspy.core.protocols import Embedder

_BATCH: Final = 512  # chunks embedded and written at a time, and so the most that a crash can lose
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
    """A persistent collection of embedded chunks, one per embedder, in a folder.

    Args:
        folder: Chroma's folder, made if it does not exist.
        embedder: Embeds chunks here and queries in the retriever. Another embedder gets another collection.
        words: Most words in a chunk.

    Raises:
        SetupError: If the folder cannot be opened as an index.
    """

    def __init__(self, folder: Path, embedder: Embedder, words: int = CHUNK_WORDS) -> None:
        self.folder = Path(folder)
        self.embedder = embedder
        self.words = words
        self.generation = 0  # counts updates, so that a retriever knows when its cache is stale
        self._collection = _open(self.folder, embedder.name)

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
            chunks = chunk_document(document, self.words)
            for chunk in chunks:
                meta = {
                    "document": document.id,
                    "position": chunk.position,
                    "version": self._version(document),
                    "of": len(chunks),
                }
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

    def chunks(self, document: str | None = None) -> tuple[list[Chunk], Vectors]:
        """The chunks of one document (or of all) in order, and their embeddings, float32 of shape (chunks, d)."""
        where = {"document": document} if document is not None else None
        records = self._collection.get(where=where, include=["documents", "metadatas", "embeddings"])
        rows = sorted(
            zip(records["ids"], records["documents"], records["metadatas"], records["embeddings"], strict=True),
            key=lambda row: (row[2]["document"], row[2]["position"]),
        )
        chunks = [Chunk(id, meta["document"], text, meta["position"], len(text.split())) for id, text, meta, _ in rows]
        vectors = np.asarray([row[3] for row in rows], dtype=np.float32)
        return chunks, vectors

    def _write(self, write: Callable[..., Any], **rows: Any) -> None:
        from chromadb.errors import ChromaError

        try:
            write(**rows)
        except (ChromaError, OSError) as error:
            raise SetupError(
                f"The index in {self.folder} cannot be written: {error}; make room on the disk, or delete the folder "
                "to rebuild it."
            ) from error

    def _version(self, document: Document) -> str:
        return hashlib.sha256(f"{_CUT}\n{self.words}\n{document.text}".encode()).hexdigest()[:16]

    def _indexed_documents(self) -> dict[str, _IndexedDocument]:
        """The indexed chunks, by document."""
        records = self._collection.get(include=["metadatas"])
        indexed: defaultdict[str, _IndexedDocument] = defaultdict(_IndexedDocument)
        for id, meta in zip(records["ids"], records["metadatas"], strict=True):
            entry = indexed[meta["document"]]
            entry.chunks.append(id)
            entry.versions[meta["version"], meta["of"]] += 1
        return dict(indexed)


class _IndexedDocument:
    """The indexed chunks of one document, and how many there are of each (version, size)."""

    def __init__(self) -> None:
        self.chunks: list[str] = []
        self.versions: Counter[tuple[str, int]] = Counter()

    def is_complete(self, version: str) -> bool:
        return len(self.versions) == 1 and all(v == version and n == of for (v, of), n in self.versions.items())


_ABSENT: Final = _IndexedDocument()


def _open(folder: Path, embedder: str) -> Any:
    """The collection for an embedder in the Chroma database at `folder`."""
    import chromadb
    from chromadb.errors import ChromaError

    # Chroma allows [a-zA-Z0-9._-] in names, at most 512; the hash distinguishes names that differ elsewhere.
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", embedder).strip("-")[:60]
    name = f"chunks-{slug}-{hashlib.sha256(embedder.encode()).hexdigest()[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        client = chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
        return client.get_or_create_collection(
            name, embedding_function=None, metadata={"embedder": embedder}, configuration={"hnsw": {"space": "cosine"}}
        )
    except (OSError, ValueError, RuntimeError, ChromaError) as error:
        raise SetupError(
            f"The index in {folder} cannot be opened: {error}; use a writable folder, or delete this one to rebuild it."
        ) from error
