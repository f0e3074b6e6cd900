"""The settings of the sandbox's child: what it may read around a module, and its limits."""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# What programs on this system read for time zones, file types and shared libraries.
_SYSTEM = ("/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/ld.so.cache", "/lib",
           "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/dev/urandom", "/dev/random")  # fmt: skip


_ENTRIES = 20_000  # most entries of the module's folder that are checked for hidden ones


def child_settings(
    module: Path,
    targets: Mapping[str, str] | None,
    *,
    readable: Sequence[Path] = (),
    memory_mb: int,
    files_mb: int,
    cpu_seconds: int,
) -> dict[str, Any]:
    """The first message to a child.

    Args:
        module: The Python file whose folder it may read.
        targets: The functions' qualified names in the module, by their names in calls; None for a child that
            should not import it at once.
        readable: Further files and folders that it may read.
        memory_mb: Memory limit.
        files_mb: Size limit of one file.
        cpu_seconds: Limit of processor time in total.
    """
    libraries = _libraries()
    around, listable = _around(module, libraries)
    return {
        "module": None if targets is None else str(module),
        "targets": targets,
        "readable": [str(path) for path in (*libraries, *around, *readable)],
        "listable": [str(path) for path in listable],
        "memory": memory_mb << 20,
        "file": files_mb << 20,
        "cpu": cpu_seconds,
    }


def in_words(stopped: str, seconds: float, memory_mb: int, files_mb: int) -> str:
    """Why a child was stopped, worded to follow "it"."""
    limits = {
        "time": f"ran longer than {seconds:g} s",
        "memory": f"used more than {memory_mb} MB",
        "file": f"wrote more than {files_mb} MB",
    }
    return limits.get(stopped, stopped)


def _libraries() -> list[Path]:
    """The standard library, installed packages, and this package, whose decorator marks read-only functions."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [str(Path(prefix) / "lib") for prefix in (sys.prefix, sys.base_prefix)]
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        folders += filter(None, os.environ.get(name, "").split(os.pathsep))
    libraries = [Path(folder).resolve() for folder in (*folders, *_SYSTEM, str(Path(__file__).parents[3]))]
    return list(dict.fromkeys(path for path in libraries if path.exists()))


def _around(module: Path, libraries: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Readable and listable paths of the module's folder, or its package's: everything but hidden files (.env).

    In a folder such as the user's home, only the module's file or package; nothing for
    installed modules, which are readable anyway.
    """
    if any(module.is_relative_to(library) for library in libraries):
        return [], []
    folder, top = module.parent, module
    while (folder / "__init__.py").is_file():
        folder, top = folder.parent, folder
    home = Path.home().resolve()
    if folder in (home, *home.parents, Path(folder.anchor), Path(tempfile.gettempdir()).resolve()):
        folder = top
    return ([folder], []) if folder.is_file() else _shown(folder)


def _shown(top: Path) -> tuple[list[Path], list[Path]]:
    """The paths below a folder without hidden ones: folders without hidden entries as a whole, else each entry.

    Links are left out, as naming one would allow its target. Targets within the folder are named themselves.
    Folders beyond the first `_ENTRIES` entries, the nearest first, are left out too: they might have hidden entries.

    Returns:
        The readable paths, and the folders that can only be listed.
    """
    children: dict[Path, list[os.DirEntry[str]]] = {}
    partial: set[Path] = set()
    waiting, seen = deque([top]), 0
    while waiting:
        folder = waiting.popleft()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if seen < _ENTRIES else None
        except OSError:
            entries = None
        kept = [entry for entry in entries or () if not entry.name.startswith(".") and not entry.is_symlink()]
        if entries is None or folder == top or any(entry.name.startswith(".") for entry in entries):
            partial.update((folder, *folder.parents))
        if entries is not None:
            children[folder] = kept
            seen += len(entries)
            waiting.extend(folder / entry.name for entry in kept if entry.is_dir(follow_symlinks=False))
    readable = [
        folder / entry.name
        for folder, entries in children.items()
        if folder in partial
        for entry in entries
        if folder / entry.name not in partial
    ]
    return readable, [folder for folder in children if folder in partial]
