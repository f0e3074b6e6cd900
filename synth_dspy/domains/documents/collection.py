"""The Chroma collection that an index keeps its chunks in: in a folder, or on a server by its address."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import write_whole

OWNER: Final = "collection.txt"
"""In an index's folder: what tells its collection from those of other folders on the same server."""


def open_collection(folder: Path, embedder: str, *, ef_search: int, chroma: str | None = None) -> Any:
    """The collection of an embedder's vectors, made if it is not there.

    Args:
        folder: where Chroma keeps its files; of a collection on a server, what says which is this folder's.
        embedder: its name; vectors of another embedder are another collection.
        ef_search: how many candidates a search of the HNSW graph keeps.
        chroma: address of a Chroma server; None: Chroma in this process.

    Raises:
        SetupError: the folder cannot be opened, or no Chroma answers at the address.
    """
    import chromadb
    from chromadb.errors import ChromaError

    # Chroma allows [a-zA-Z0-9._-] in names, at most 512; the hash keeps names apart that differ elsewhere.
    slug = re.sub(r"[^a-zA-Z0-9]+", "-", embedder).strip("-")[:60]
    name = f"chunks-{slug}-{hashlib.sha256(embedder.encode()).hexdigest()[:8]}"
    settings = chromadb.Settings(anonymized_telemetry=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if chroma is None:
            client = chromadb.PersistentClient(str(folder), settings=settings)
        else:
            name += f"-{_owner(folder)}"
            client = _connect(chroma, settings)
        configuration: Any = {"hnsw": {"space": "cosine", "ef_search": ef_search}}
        collection = client.get_or_create_collection(
            name, embedding_function=None, metadata={"embedder": embedder}, configuration=configuration
        )
        if (collection.configuration.get("hnsw") or {}).get("ef_search") != ef_search:
            collection.modify(configuration={"hnsw": {"ef_search": ef_search}})
        return collection
    except (OSError, ValueError, RuntimeError, ChromaError) as error:
        if chroma is not None:
            raise SetupError(
                f"The Chroma server {chroma} cannot be used: {error}; start one (chroma run --path "
                "FOLDER), correct --retrieval.chroma, or leave it out to search without a server."
            ) from error
        raise SetupError(
            f"The index in {folder} cannot be opened: {error}; use a writable folder, or delete this one to rebuild it."
        ) from error


def _connect(address: str, settings: Any) -> Any:
    import chromadb

    parts = urlsplit(address)
    is_tls = parts.scheme == "https"
    return chromadb.HttpClient(
        parts.hostname or "", parts.port or (443 if is_tls else 80), ssl=is_tls, settings=settings
    )


def _owner(folder: Path) -> str:
    path = folder / OWNER
    if not path.exists():
        write_whole(path, uuid.uuid4().hex)
    return path.read_text(encoding="utf-8").strip()
