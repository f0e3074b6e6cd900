"""Who may write a run: locks that the kernel gives back when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from synth_dspy.errors import SetupError

DRAIN_S = 120.0
"""How long a run that was killed and is resumed waits for the calls that it still had under way."""


def lock_file(path: Path, *, wait_s: float = 0.0) -> int | None:
    """Lock `path`, waiting up to `wait_s`; None if another process has it.

    The kernel gives the lock back when its holder ends, however it ends.

    Raises:
        OSError: it cannot be opened, or is a link: who wrote into it would write elsewhere.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.02)


def http_lock(path: Path) -> Path:
    """The lock that a run's HTTP process holds while it can still write answers into the ledger at `path`."""
    return path.with_name(path.name + ".http.lock")


def lock_run(path: Path) -> int:
    """Become the one process that writes the ledger at `path`."""
    lock = path.with_name(path.name + ".lock")
    try:
        fd = lock_file(lock)
        if fd is None:
            holder = lock.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            raise SetupError(
                f"The run in {path.parent} is already open in process {holder}: wait until it ends, or end it, "
                "then resume."
            )
        # A killed run may still have calls under way in its HTTP process; their answers are about to come in.
        drained = lock_file(http_lock(path), wait_s=DRAIN_S)
        if drained is None:
            os.close(fd)
            raise SetupError(
                f"The run in {path.parent} was killed with model calls under way, which have not been answered within "
                f"{DRAIN_S:.0f} s: resume it once the endpoint has answered them."
            )
        os.close(drained)
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode("ascii"), 0)
    except OSError as error:
        raise SetupError(
            f"Could not open the ledger {path}: {error.strerror or error}; free some space, or see to it that you may "
            "write there."
        ) from error
    return fd
