"""What the weights in a file or folder are, whatever it is called and wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from synth_dspy.models.weights.registry import REGISTRY
from synth_dspy.models.weights.trained import MERGED, SPEC, read_result

PREFIX = "embedded/"
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


def names_in_keys(model: str, answered: Sequence[str] = ()) -> list[str]:
    """What the keys of calls to an embedded model name it by: its weights, so that a run may be moved.

    A name of the registry stands for itself, a tuned model for its training, any other file or folder for its content.

    Args:
        model: `embedded/<name or path>`.
        answered: model strings under which calls were answered before.

    Returns:
        The name; behind it, as earlier versions had the path in the key, the paths under which answers may stand.
    """
    name = model.removeprefix(PREFIX)
    path = Path(name).expanduser()
    if name in REGISTRY or not path.exists():
        return [model]
    trained = path.name == MERGED and (path.parent / SPEC).is_file()
    result = read_result(path.parent) if trained else None
    if result is None or not {"method", "fingerprint"} <= result.keys():
        return [f"{PREFIX}sha256:{content_of(path)}", model]
    training = f"{result['method']}-{result['fingerprint']}"
    moved = [each for each in answered if each.endswith(f"/{training}/{MERGED}") and each != model]
    return [f"{PREFIX}{training}", model, *moved]


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
