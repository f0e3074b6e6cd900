"""Have the documents changed? The index knows exactly, so there is no false alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DocumentChanges:
    """Documents by what happened to them since a version was made."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def document_changes(before: Mapping[str, str], now: Mapping[str, str]) -> DocumentChanges:
    """Compare two states of a folder of documents.

    Args:
        before: SHA-256 of each document's text, by name.
        now: the same, today.
    """
    return DocumentChanges(
        added=tuple(sorted(now.keys() - before.keys())),
        changed=tuple(sorted(name for name in now.keys() & before.keys() if now[name] != before[name])),
        removed=tuple(sorted(before.keys() - now.keys())),
    )
