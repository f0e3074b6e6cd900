"""Atomic and private writing of files.

A kill or a full disk never leaves half a file, or new files mixed with old ones that belong together; `--out` never
overwrites without `--force`. Only the user can read what a run writes, unless the run is shared.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from synth_dspy.core.errors import SetupError

PRIVATE, SHARED = 0o077, 0o027
"""umasks: no access for others; read access for the user's group."""


def limit_access(*, share: bool) -> None:
    """Make the files that this process and its children write private; with `share`, readable by the group.

    It sets the umask, which applies to files that libraries write too.
    """
    os.umask(SHARED if share else PRIVATE)


@contextmanager
def restoring_umask() -> Iterator[None]:
    """Undo `limit_access` at the end: the process may be a notebook, whose own files are none of a run's business."""
    before = os.umask(PRIVATE)
    os.umask(before)
    try:
        yield
    finally:
        os.umask(before)


def limit_access_to(folder: Path, *, share: bool) -> None:
    """`limit_access`, also for what a folder already contains: a copy or an older version may have left it open.

    Files of other users stay as they are.
    """
    limit_access(share=share)
    mask = SHARED if share else PRIVATE
    for path in (folder, *folder.rglob("*")):
        with suppress(OSError):
            if not path.is_symlink():
                owner_bits = path.stat().st_mode & 0o700
                path.chmod((owner_bits | owner_bits >> 3 | owner_bits >> 6) & ~mask & 0o777)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write a file or a folder atomically; a missing parent folder is created.

    Yields:
        An unused path next to `target`. What is written there replaces `target` at the end, or is removed if the block
        fails.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    remove(partial)
    try:
        yield partial
        if partial.is_dir():  # a file is replaced in one step, and never replaces a folder
            remove(target)
        partial.replace(target)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():  # remove a link itself, never its target
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write UTF-8 text to a file atomically; an existing file keeps its permissions.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")
        if path.exists():
            partial.chmod(path.stat().st_mode & 0o777)


def write_together(folder: Path, texts: Mapping[str, str], staged: str) -> None:
    """Write several files of a folder atomically: all of them or none.

    Args:
        folder: an existing folder.
        texts: file contents by file name.
        staged: name of a staging folder inside it, from which `finish_writing` completes an interrupted write.

    Raises:
        OSError: a file cannot be written; the old contents stay.
    """
    finish_writing(folder, staged)
    partial = folder / f"{staged}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        partial.mkdir()
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8", newline="")
            sync(partial / name)
        partial.replace(folder / staged)  # the commit point
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finish_writing(folder, staged)


def finish_writing(folder: Path, staged: str) -> None:
    """Complete a `write_together` that was interrupted after its commit point.

    Raises:
        OSError: a file cannot be moved.
    """
    source = folder / staged
    if source.is_dir() and not source.is_symlink():  # a link could move the files of any folder here
        for path in sorted(source.iterdir()):
            path.replace(folder / path.name)
        source.rmdir()
        sync_folder(folder)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's contents, or a folder's entries, to the disk.

    Raises:
        OSError: the flush fails.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, if the file system supports it."""
    with suppress(OSError):
        sync(folder)


def refuse_to_overwrite(paths: Iterable[Path], *, force: bool, flag: str = "--out") -> None:
    """Refuse to write over existing files, before any work is done.

    Args:
        paths: the files to be written.
        force: whether the user passed `--force`.
        flag: the flag that names another path.

    Raises:
        SetupError: one of them exists and `force` is false, or is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise SetupError(f"{path} is a folder, not a file: name another path with {flag}.")
        if path.exists() and not force:
            raise SetupError(f"{path} exists already: name another path with {flag}, or overwrite it with --force.")
