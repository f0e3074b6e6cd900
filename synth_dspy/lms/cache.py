"""The cache of weights, and files and folders that are written whole or not at all.

The cache is `SYNTH_DSPY_HOME`, else the user's cache folder:

    weights/<name>/...     fetched models: complete and verified, or not there at all
    downloads/*.part       interrupted downloads, which the next attempt continues
    converted/...          files made from weights (GGUF with other tensor types, OpenVINO models)

Two processes that want the same file wait for each other on a lock.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synth_dspy.errors import SetupError


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
    import filelock

    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(target.name + ".lock")):
        yield


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Write a file or folder completely or not at all: yields a temporary path that becomes `target` at the end."""
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        _remove(part)
        try:
            yield part
            _remove(target)
            part.replace(target)
        finally:
            _remove(part)


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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
