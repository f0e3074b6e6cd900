"""How many answers a ledger has committed, noted beside it: the one thing that tells that the last ones are missing.

SQLite takes a damaged frame of its log (`-wal`) for the log's end, so what stands behind it is gone without an error,
and until the first snapshot nothing else remembers it. The note is in the kernel's hands as soon as it is written, as
the log is: a process that is killed leaves both. Only a machine that goes down may lose one of them and not the other.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class AnswerCount:
    """The note beside a ledger, for the process that has it open.

    Args:
        ledger: the ledger's file.

    Raises:
        OSError: it cannot be opened or written.
    """

    def __init__(self, ledger: Path) -> None:
        self._boot = _boot()
        self._fd = os.open(count_of(ledger), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)

    def noted(self) -> tuple[int, bool]:
        """How many answers were committed, and whether the machine has been up ever since."""
        digits, _, boot = os.pread(self._fd, 100, 0).decode("ascii", "replace").strip().partition(" ")
        return (int(digits) if len(digits) == 20 and digits.isdecimal() and digits.isascii() else 0), boot == self._boot

    def note(self, answers: int) -> None:
        """Say how many there are. Of two threads the one with the smaller number may come last: it misses nothing."""
        os.pwrite(self._fd, f"{answers:020} {self._boot}\n".encode("ascii"), 0)

    def close(self) -> None:
        """Close the file, which stays; whoever notes something later notes nothing."""
        fd, self._fd = self._fd, -1
        os.close(fd)


def count_of(ledger: Path) -> Path:
    """Where a ledger's note lies."""
    return ledger.with_name(f"{ledger.stem}.count")


def _boot() -> str:
    """What tells one start of the machine from another; nothing where the system has no such thing."""
    with suppress(OSError, UnicodeDecodeError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""
