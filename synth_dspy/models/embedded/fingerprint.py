"""What the weights in a file or folder are, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

_BLOCK, _BLOCKS = 1 << 16, 64
_SUFFIXES = frozenset({".bin", ".gguf", ".jinja", ".json", ".model", ".safetensors", ".txt", ".xml"})
"""Of the files in a model's folder that decide what it says: weights, configuration, tokeniser and template."""


def content_of(model: Path) -> str:
    """Sixteen hexadecimal digits of a model's GGUF file or folder.

    Large files are sampled, 64 KiB in 64 places: weights that were tuned differ in every layer that was.

    Raises:
        OSError: it cannot be read.
    """
    files = sorted(path for path in model.iterdir() if path.suffix in _SUFFIXES) if model.is_dir() else [model]
    stats = [(path, path.stat()) for path in files if path.is_file()]
    return _content(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats), named=model.is_dir())


@lru_cache(maxsize=64)
def _content(files: tuple[tuple[Path, int, int], ...], *, named: bool) -> str:
    digest = hashlib.sha256()
    for path, size, _modified in files:
        digest.update(f"{path.name if named else ''}:{size}:".encode())
        with path.open("rb") as file:
            if size <= _BLOCK * _BLOCKS:
                digest.update(file.read())
                continue
            for block in range(_BLOCKS):
                file.seek((size - _BLOCK) * block // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK))
    return digest.hexdigest()[:16]
