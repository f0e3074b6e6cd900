"""Opening the retriever of a run: an index that is in step with the documents, for the settings that are wanted."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io import locks
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.knowledge import Document
from synth_dspy.core.protocols import Embedder
from synth_dspy.domains.documents.chunks import CHUNK_WORDS
from synth_dspy.domains.documents.index import Index
from synth_dspy.domains.documents.retrieval import Retriever

log = logging.getLogger("synth_dspy.domains.documents")

INDEX_WAIT_S: Final = 600.0
"""How long to wait for another run that is updating the same index."""
UPDATED: Final = ".updated"
"""In an index's folder: a name of its last update, by which a process notices that another one made it."""
_seen: dict[Path, str] = {}


@dataclass(frozen=True)
class Collection:
    """The documents of a task, and where their indexes lie: one for each size and overlap of chunks.

    Attributes:
        folder: runs over the same knowledge share it, one updating an index at a time.
        documents: all that an index is to hold.
        embedder: embeds chunks and queries.
        wording: says in which wording documents of this kind answer; see `Task.wording`.
    """

    folder: Path
    documents: Sequence[Document]
    embedder: Embedder
    wording: Callable[[str], str] | None = None

    def retriever(self, settings: Retrieval, progress: Callable[[int, int], None] | None = None) -> Retriever:
        """A retriever over an index that is in step with the documents.

        Args:
            settings: of the chunks, the search, and where the index is kept.
            progress: called with (chunks embedded so far, chunks to embed).

        Raises:
            SetupError: another process has been updating the index for very long, or it cannot be opened.
        """
        folder, words, overlap = self.folder, settings.chunk_words, settings.overlap
        if (words, overlap) != (CHUNK_WORDS, 0):
            folder = folder / f"chunks-{words}-{overlap}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = locks.lock_file(folder / ".lock", wait_s=INDEX_WAIT_S)
        if lock is None:
            raise SetupError(f"Another process is still updating the index {folder}: wait for it, or stop it.")
        try:
            _forget_old_graph(folder)
            index = Index(folder, self.embedder, words, overlap, ef_search=settings.ef_search, chroma=settings.chroma)
            stats = index.update(self.documents, progress=progress)
            log.info("index: %s", stats)
            if stats.added or stats.changed or stats.removed or not (folder / UPDATED).is_file():
                write_whole(folder / UPDATED, uuid4().hex)
            _seen[folder.resolve()] = (folder / UPDATED).read_text(encoding="ascii")
        finally:
            os.close(lock)
        return Retriever(index, wording=self.wording, settings=settings, collection=self)


def _forget_old_graph(folder: Path) -> None:
    """Let Chroma read an index anew that another process has updated since it was opened here.

    Chroma keeps the graph of each folder for as long as the process lives; where chunks have been added or deleted
    meanwhile, a search in it misses them, or fails. Retrievers that are open go on with what they have.
    """
    seen, path = _seen.get(folder.resolve()), folder / UPDATED
    if seen is not None and path.is_file() and path.read_text(encoding="ascii") != seen:
        from chromadb.api.shared_system_client import SharedSystemClient

        SharedSystemClient.clear_system_cache()
