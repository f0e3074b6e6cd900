"""The cache of weights, with atomic writes.

The cache is `SYNTH_DSPY_HOME`, else the user's cache folder:

    weights/<name>/...     fetched models, complete and verified
    downloads/*.part       interrupted downloads, which the next attempt resumes
    converted/...          files converted from weights (GGUF with other tensor types, OpenVINO models, tokenizers)

A lock serialises processes that want the same file. The folder is created private. If it is readable by others (for
example, created by an administrator), weights and converted files are too, whatever a run's umask; models trained on a
user's data never are.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synth_dspy.core.cache import cache_home
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import replacing
from synth_dspy.core.io.locks import lock_file


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Hold the lock of `target` against other processes and threads."""
    with _disk_errors(target):
        if not cache_home().exists():
            cache_home().mkdir(parents=True, mode=0o700, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_file(target.with_name(target.name + ".lock"), wait_s=math.inf)
    assert lock is not None  # however long it took
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Like `replacing`, with a `SetupError` for a full disk, which the size of weights makes likely.

    Raises:
        SetupError: the disk is full, or the folder cannot be written.
    """
    with _disk_errors(target), replacing(target) as part:
        yield part


def kept(name: str, write: Callable[[Path], None]) -> Path:
    """The file or folder with this name in `converted/`; if missing, `write` is called with the path to write.

    Raises:
        SetupError: The disk is full, or the cache cannot be written.
    """
    target = cache_home() / "converted" / name
    if not target.exists():
        with exclusive(target):
            if not target.exists():  # another process may have written it meanwhile
                with publish(target) as part:
                    write(part)
                    open_as_home(part)
    return target


def open_as_home(part: Path) -> None:
    """Give a new file or folder in the cache, and its parent, the same read access as the cache's folder."""
    others = cache_home().stat().st_mode & 0o055
    for path in (part.parent, part, *part.rglob("*")):
        mode = path.stat().st_mode & 0o777
        with suppress(PermissionError):  # another user's file
            path.chmod(mode | (others if path.is_dir() or mode & 0o100 else others & 0o044))


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"the disk is full: could not write {target}; free some space, or name another folder in "
                "SYNTH_DSPY_HOME"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise SetupError(f"cannot write {target}; name a folder you may write in SYNTH_DSPY_HOME") from error
        raise
