"""Files that are written: whole or not at all, and never over what is there unless the user said so.

A kill, or a full disk, never leaves half of a file, nor new files beside old ones that belong together; `--out` never
takes the place of another without `--force`. What a run writes is its user's alone, unless it is shared.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from synth_dspy.errors import SetupError

PRIVATE, SHARED = 0o077, 0o027
"""Masks of what nobody, or only the user's group, may read."""


def limit_access(*, share: bool) -> None:
    """Let this process, and those that it starts, write files that nobody else may read; with `share`, the group may.

    The process's umask does it, so that it holds for every library's files too.
    """
    os.umask(SHARED if share else PRIVATE)


def limit_access_to(folder: Path, *, share: bool) -> None:
    """`limit_access`, also for what is in a folder: a copy, or an older version, may have left it open to others.

    What another user owns stays as it is.
    """
    limit_access(share=share)
    mask = SHARED if share else PRIVATE
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            if not path.is_symlink():
                own = path.stat().st_mode & 0o700
                path.chmod((own | own >> 3 | own >> 6) & ~mask & 0o777)


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text into a file, in a folder that is made where it is missing. Another file's access stays.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # of a process that was killed, or a link of whoever made the folder
        with partial.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
        if path.exists():
            partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    except BaseException:  # also of text that is none, such as half a surrogate pair
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_together(folder: Path, texts: Mapping[str, str], staged: str) -> None:
    """Write several files of a folder that belong together: all of them take their places, or none does.

    Args:
        folder: is there.
        texts: by the files' names.
        staged: name of a folder in it for the meantime; `finish_writing` finds there what a kill has left to do.

    Raises:
        OSError: one cannot be written; what was there stays.
    """
    finish_writing(folder, staged)
    partial = folder / f"{staged}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        partial.mkdir()
        for name, text in texts.items():
            with (partial / name).open("x", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        partial.replace(folder / staged)  # from here on they are the folder's
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finish_writing(folder, staged)


def finish_writing(folder: Path, staged: str) -> None:
    """Let the files of a `write_together` that was killed half-way take their places.

    Raises:
        OSError: they cannot.
    """
    source = folder / staged
    if source.is_dir() and not source.is_symlink():  # which would bring the files of another folder here
        for path in sorted(source.iterdir()):
            path.replace(folder / path.name)
        source.rmdir()
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have the names of a folder's files survive a loss of power, where the file system can."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


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
