"""What people may call a document: its id, its path in the folder, or its file's name, each with or without its ending.

The names of files with the same text, of which one was read, are names of that one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Final

from synth_dspy.core.knowledge import Document

_SHOWN: Final = 5
"""Names that a message lists at most."""


class Names:
    """Finds documents by their names.

    Args:
        documents: all that were read.
    """

    def __init__(self, documents: Sequence[Document]) -> None:
        self._paths = {document.id: document.path for document in documents}
        ids, paths, loose = (defaultdict[str, set[str]](set) for _ in range(3))
        for document in documents:
            for id, path in [(document.id, document.path), *document.also]:
                ids[id].add(document.id)
                paths[path].add(document.id)
                file = PurePosixPath(path)
                for name in (path.removesuffix(file.suffix), file.name, file.stem):
                    loose[name].add(document.id)
        self._levels = (ids, paths, loose)

    def find(self, name: str) -> str | None:
        """The id of the document with a name; None where there is none, or several have it."""
        found = self._called(name)
        return found[0] if len(found) == 1 else None

    def problem(self, name: object) -> str:
        """Why a name leads to no document, and which would."""
        if len(found := self._called(str(name))) > 1:
            paths = sorted(self._paths[id] for id in found)
            more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            return f"several documents are called that; give the path of one: {', '.join(paths[:_SHOWN])}{more}"
        names = [name for level in self._levels for name in level]
        near = {self._called(each): each for each in reversed(get_close_matches(str(name), dict.fromkeys(names)))}
        if near:
            return f"no such document was read; the nearest is {' or '.join(map(repr, reversed(near.values())))}"
        examples = ", ".join(sorted(self._paths)[:_SHOWN])
        return f"no such document was read; use one of {len(self._paths)} ids such as {examples}"

    def _called(self, name: str) -> tuple[str, ...]:
        """The ids of the documents with a name; an id goes before a path, and a path before a part of one."""
        return tuple(sorted(next((level[name] for level in self._levels if name in level), ())))
