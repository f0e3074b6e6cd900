"""Files that are written: whole or not at all, and never over what is there unless the user said so.

A kill, or a full disk, never leaves half of a file; `--out` never takes the place of another without `--force`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from synth_dspy.errors import SetupError


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


def refuse_to_overwrite(paths: Iterable[Path], *, force: bool, flag: str = "--out") -> None:
    """Look at what is about to be written, before any work is done for it.

    Args:
        paths: the files.
        force: whether the user said `--force`.
        flag: what another place is named with.

    Raises:
        SetupError: one of them is there and `force` was not said, or is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise SetupError(f"{path} is a folder, where a file is to be written: name another place with {flag}.")
        if path.exists() and not force:
            raise SetupError(f"{path} is there already: name another place with {flag}, or write over it with --force.")
