"""Files that are written whole or not at all: a kill, or a full disk, never leaves half of one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text into a file, in a folder that is made where it is missing.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(path)
    except BaseException:  # also of text that is none, such as half a surrogate pair
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
