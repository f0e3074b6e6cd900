"""The cache of weights: files and folders that are complete, or not there at all.

The cache is `SYNTH_DSPY_HOME`, else the user's cache folder:

    weights/<name>/...     fetched models: complete and verified, or not there at all
    downloads/*.part       interrupted downloads, which the next attempt continues
    converted/...          files made from weights (GGUF with other tensor types, OpenVINO models, tokenizers)

Two processes that want the same file wait for each other on a lock. The folder is its user's alone when it is made
here; in one that others may read (as an administrator makes it), weights and what is made of them are as open as it
is, whatever a run's umask. What was trained on a user's data never is.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import replacing
from synth_dspy.core.io.locks import lock_file


def cache_home() -> Path:
    """The cache folder: `SYNTH_DSPY_HOME`, else `synth_dspy` in the user's cache folder."""
    home = os.environ.get("SYNTH_DSPY_HOME")
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("synth_dspy"))


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
    """As `replacing`, for weights and what is made of them, whose size makes a full disk likely.

    Raises:
        SetupError: the disk is full, or the folder cannot be written.
    """
    with _disk_errors(target), replacing(target) as part:
        yield part


def kept(name: str, write: Callable[[Path], None]) -> Path:
    """The file or folder of that name in `converted/`; if it is not there, `write` makes it, given the path to write.

    Raises:
        SetupError: The disk is full, or the cache cannot be written.
    """
    target = cache_home() / "converted" / name
    if not target.exists():
        with exclusive(target):
            if not target.exists():  # another process may have made it meanwhile
                with publish(target) as part:
                    write(part)
                    open_as_home(part)
    return target


def open_as_home(part: Path) -> None:
    """Give a file or folder that is being published in the cache, and the folder that it will lie in, the access that
    the cache's own folder gives."""
    others = cache_home().stat().st_mode & 0o055
    for path in (part.parent, part, *part.rglob("*")):
        mode = path.stat().st_mode & 0o777
        with suppress(PermissionError):  # what is another user's
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
