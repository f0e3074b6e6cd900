"""The only folder that the sandbox's child may write to: created, measured without trusting its contents, and removed.

It is locked while the process that created it runs: a folder left behind by a killed process is removed by the
next process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from synth_dspy.core.io.locks import try_lock

_PREFIX = "synth_dspy-sandbox-"
_BLOCK = 4096  # least bytes that an entry counts for: directories, links and empty files take space too
_DEEPEST = 50  # folders within folders
_LONGEST = 0.5  # seconds that measuring may take


class ScratchFolder:
    """A new folder of this process.

    Attributes:
        path: its path.
    """

    def __init__(self) -> None:
        _remove_abandoned(os.getpid())
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
            descriptor = _lock(str(self.path))
            if descriptor is not None:
                self._descriptor = descriptor
                return

    def size(self, most: int) -> int:
        """Bytes that its contents take on the disk; some number above `most` if it is more, or cannot be measured."""
        return _size(self._descriptor, most, _DEEPEST, time.monotonic() + _LONGEST)

    def is_below(self, path: str) -> bool:
        """Whether a path, as written by the kernel, is in the folder."""
        return path.startswith(f"{self.path}/")

    def remove(self) -> None:
        """Remove it with its contents. No process may be writing to it any more."""
        _remove(str(self.path), self._descriptor)


@functools.cache
def _remove_abandoned(process: int) -> None:
    """Remove the folders of processes that have ended; done once in each process."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name.startswith(_PREFIX) and entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                    descriptor = _lock(entry.path)
                    if descriptor is not None:
                        _remove(entry.path, descriptor)


def _lock(path: str) -> int | None:
    """The descriptor of a folder, locked while it is open; None if another process locked or removed it.

    The kernel releases the lock when its holder ends, however it ends.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if try_lock(descriptor) and os.path.exists(path):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _remove(path: str, descriptor: int) -> None:
    """Remove a locked folder, and unlock it."""
    with contextlib.suppress(OSError):
        _empty(descriptor)
        os.rmdir(path)
    os.close(descriptor)


def _size(folder: int, most: int, deepest: int, until: float) -> int:
    """Bytes of everything below an open folder; above `most` if it is too much, too deep or too slow to measure.

    Uses descriptors, as paths may exceed the system's limit, and may be replaced by links meanwhile.
    """
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                total += taken_on_disk(status)
                if total > most or not deepest or time.monotonic() > until:
                    return most + 1
                if stat.S_ISDIR(status.st_mode):
                    with _opened(entry.name, folder) as below:
                        total += _size(below, most - total, deepest - 1, until)
            except FileNotFoundError:
                continue
            except OSError:  # a folder that cannot be opened
                return most + 1
    return total


def taken_on_disk(status: os.stat_result) -> int:
    """Bytes that a file takes: its length, or its blocks if these are more."""
    return max(status.st_size, status.st_blocks * 512, _BLOCK)


def _empty(folder: int) -> None:
    """Remove the contents of an open folder, however deep: subfolders' contents are moved up until they are empty."""
    while True:
        names = _remove_files(folder)
        if not names:
            return
        for name in names:
            os.chmod(name, 0o700, dir_fd=folder)
            with _opened(name, folder) as below:
                for inner in _remove_files(below):
                    os.chmod(inner, 0o700, dir_fd=below)
                    os.rename(inner, secrets.token_hex(8), src_dir_fd=below, dst_dir_fd=folder)
            os.rmdir(name, dir_fd=folder)


def _remove_files(folder: int) -> list[str]:
    """Remove the files of an open folder. Returns the names of the folders in it."""
    with os.scandir(folder) as entries:
        children = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in children:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
    return [name for name, is_folder in children if is_folder]


@contextlib.contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
