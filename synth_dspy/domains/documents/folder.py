"""Lists and reads a folder's files, without opening special files or following links out of the folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from synth_dspy.domains.documents.readers import Unreadable

_SPECIAL: Final = {
    stat.S_IFIFO: "is a named pipe, not a file",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


def list_files(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The files below a folder that are not hidden.

    Args:
        folder: The folder; a single file counts as a folder of one.

    Returns:
        The files, relative to the folder, in order; and everything else that is not a folder, each with the reason why
        it is not read, as a phrase that follows its name.

    Raises:
        OSError: The folder itself cannot be opened.
    """
    if not stat.S_ISDIR(folder.stat().st_mode):
        why = _SPECIAL.get(stat.S_IFMT(folder.stat().st_mode))
        only = Path(folder.name)
        return ([], [(only, why)]) if why else ([only], [])
    root = os.path.realpath(folder)
    files: list[Path] = []
    other: list[tuple[Path, str]] = []
    folders = [""]  # below `folder`, still to be listed; a stack, as folders may be nested deeper than calls may
    while folders:
        below = folders.pop()
        try:
            with os.scandir(folder / below) as entries:
                names = [entry.name for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if not below:
                raise
            other.append((Path(below), f"cannot be opened ({error.strerror})"))
            continue
        for name in names:
            path = os.path.join(below, name)
            try:
                mode = os.lstat(folder / path).st_mode
                why = _link_reason(root, folder / path) if stat.S_ISLNK(mode) else _SPECIAL.get(stat.S_IFMT(mode))
            except OSError as error:
                mode, why = 0, f"cannot be opened ({error.strerror})"
            if stat.S_ISDIR(mode):
                folders.append(path)
            elif why:
                other.append((Path(path), why))
            else:
                files.append(Path(path))
    return sorted(files), sorted(other)


def read_file(root: Path, file: Path, most: int) -> bytes:
    """The contents of a file that `list_files(root)` listed.

    Args:
        root: The folder, or the file itself.
        file: The file's name relative to it.
        most: Size limit in bytes: larger files are dumps rather than documents, and would fill the index.

    Raises:
        Unreadable: It is empty or too large, changes while it is read, or is no longer a file.
    """
    path = root / file if root.is_dir() else root
    try:
        # The file may have changed since it was listed: a link is not followed, and a pipe does not block.
        target = os.path.realpath(path)
        if root.is_dir() and not _is_within(os.path.realpath(root), target):
            raise Unreadable("is a link out of the folder, which is not followed")
        with open(target, "rb", opener=_open_at_once) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable(_SPECIAL.get(stat.S_IFMT(status.st_mode), "is not a file"))
            if status.st_size > most:
                size = status.st_size / 2**20
                raise Unreadable(f"is too large ({size:,.1f} MiB; at most {most / 2**20:g} MiB are read)")
            if status.st_size == 0:
                raise Unreadable("is empty")
            data = opened.read(most + 1)
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror or error})") from error
    if len(data) != status.st_size:
        raise Unreadable("changes while it is read")
    return data


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _link_reason(root: str, link: Path) -> str | None:
    """Why a link is not read; None if it leads to a file in the folder."""
    try:
        mode = link.stat().st_mode
    except OSError as error:
        return "is a link that leads in a circle" if error.errno == errno.ELOOP else "is a link to nothing"
    if not _is_within(root, os.path.realpath(link)):
        return "is a link out of the folder, which is not followed"
    if stat.S_ISDIR(mode):
        return "is a link to a folder, which is not followed"
    return _SPECIAL.get(stat.S_IFMT(mode))


def _is_within(root: str, path: str) -> bool:
    return os.path.commonpath([root, path]) == root
