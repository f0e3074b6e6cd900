"""Opening the retriever of a run: an index that is in step with the documents, for the settings that are wanted."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io import locks
from synth_dspy.core.knowledge import Document
from synth_dspy.core.protocols import Embedder
from synth_dspy.domains.documents.chunks import CHUNK_WORDS
from synth_dspy.domains.documents.index import Index
from synth_dspy.domains.documents.retrieval import Retriever

log = logging.getLogger("synth_dspy.domains.documents")

INDEX_WAIT_S: Final = 600.0
"""How long to wait for another run that is updating the same index."""


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
            index = Index(folder, self.embedder, words, overlap, ef_search=settings.ef_search, chroma=settings.chroma)
            log.info("index: %s", index.update(self.documents, progress=progress))
        finally:
            os.close(lock)
        return Retriever(index, wording=self.wording, settings=settings, collection=self)
