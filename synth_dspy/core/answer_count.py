"""The number of answers a ledger has committed, kept in a file next to it, so that lost answers are noticed.

SQLite treats a damaged frame of its write-ahead log (`-wal`) as the end of the log: later frames disappear without an
error, and before the first snapshot nothing else records that they existed. Like the log, the count is handed to the
kernel as soon as it is written, so both survive a killed process. Only a machine that goes down may lose one of them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class AnswerCount:
    """The count file of a ledger, for the process that has the ledger open.

    Args:
        ledger: the ledger's file.

    Raises:
        OSError: the count file cannot be opened or written.
    """

    def __init__(self, ledger: Path) -> None:
        self._boot = _boot()
        self._fd = os.open(count_file(ledger), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)

    def read(self) -> tuple[int, bool]:
        """The recorded number of answers, and whether the machine has been up since it was written."""
        digits, _, boot = os.pread(self._fd, 100, 0).decode("ascii", "replace").strip().partition(" ")
        return (int(digits) if len(digits) == 20 and digits.isdecimal() and digits.isascii() else 0), boot == self._boot

    def write(self, answers: int) -> None:
        """Record the number of answers. If two threads race, the smaller number may win, which does no harm."""
        os.pwrite(self._fd, f"{answers:020} {self._boot}\n".encode("ascii"), 0)

    def close(self) -> None:
        """Close the file; later writes fail."""
        fd, self._fd = self._fd, -1
        os.close(fd)


def count_file(ledger: Path) -> Path:
    """The path of a ledger's count file."""
    return ledger.with_name(f"{ledger.stem}.count")


def _boot() -> str:
    """The id of the current boot; empty where the system has none."""
    with suppress(OSError, UnicodeDecodeError):
        return _BOOT.read_text(encoding="ascii").strip()
    return ""
