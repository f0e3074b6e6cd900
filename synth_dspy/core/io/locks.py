"""File locks between processes. The kernel releases them when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from synth_dspy.core.errors import SetupError

DRAIN_S = 120.0
"""How long a resumed run waits for calls that were in flight when it was killed."""


def lock_file(path: Path, *, wait_s: float = 0.0) -> int | None:
    """Lock `path` until the descriptor returned is closed, waiting up to `wait_s`; None if another has it.

    Threads of one process exclude each other too. The file's content, such as the holder's process id, is kept.

    Raises:
        OSError: it cannot be opened, or is a link, through which another file would be written.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    deadline = time.monotonic() + wait_s
    try:
        while not try_lock(fd):
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.02)
    except BaseException:
        os.close(fd)
        raise
    return fd


def try_lock(fd: int) -> bool:
    """Lock an open file or folder until its descriptor is closed; False if it is locked already."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def http_lock(path: Path) -> Path:
    """The lock that a run's HTTP process holds while it can still write answers into the ledger at `path`."""
    return path.with_name(path.name + ".http.lock")


def lock_run(path: Path) -> int:
    """Become the only process that writes the ledger at `path`.

    Returns:
        The descriptor that holds the lock.

    Raises:
        SetupError: another process has the run open, its last calls are still in flight, or the lock cannot be written.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        fd = lock_file(lock)
        if fd is None:
            holder = lock.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            raise SetupError(
                f"The run in {path.parent} is already open in process {holder}: wait until it ends, or stop it, "
                "then resume."
            )
        # The HTTP process of a killed run may still have calls in flight, whose answers it will write.
        drained = lock_file(http_lock(path), wait_s=DRAIN_S)
        if drained is None:
            os.close(fd)
            raise SetupError(
                f"The run in {path.parent} was killed with model calls in flight, which have not been answered within "
                f"{DRAIN_S:.0f} s: resume it once the endpoint has answered them."
            )
        os.close(drained)
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode("ascii"), 0)
    except OSError as error:
        raise SetupError(
            f"Could not open the ledger {path}: {error.strerror or error}; free some space, or make sure that you "
            "may write there."
        ) from error
    return fd
