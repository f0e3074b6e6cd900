"""Removed files that still take disk space, because the sandbox's child has them open or mapped."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from synth_dspy.domains.functions.sandbox.folder import ScratchFolder, taken_on_disk


def removed_files(process: int) -> dict[tuple[int, int], int]:
    """Bytes of each removed file that a process still has open, by device and inode."""
    sizes: dict[tuple[int, int], int] = {}
    folder = f"/proc/{process}/fd/"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                status = os.stat(folder + name)
                if status.st_nlink == 0 and stat.S_IFMT(status.st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                    sizes[status.st_dev, status.st_ino] = taken_on_disk(status)
    return sizes


def mapped_files(process: int, scratch: ScratchFolder) -> set[tuple[int, int]]:
    """The removed files of a folder that a process still has mapped into memory, by device and inode."""
    files = set()
    maps = Path(f"/proc/{process}/maps")
    with contextlib.suppress(OSError):
        for line in maps.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            _, _, _, device, inode, *path = line.split(maxsplit=5)
            name = path[0] if path else ""
            if inode != "0" and (not name or (name.endswith("(deleted)") and scratch.is_below(name))):
                major, minor = (int(part, 16) for part in device.split(":"))
                files.add((os.makedev(major, minor), int(inode)))
    return files
