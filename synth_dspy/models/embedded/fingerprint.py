"""Content-based names of weights, which do not depend on their path."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from synth_dspy.models.weights.registry import REGISTRY, path_of
from synth_dspy.models.weights.trained import SPEC, TUNED, read_result

PREFIX = "embedded/"
_BLOCK, _BLOCKS = 1 << 16, 64
_SUFFIXES = frozenset({".bin", ".gguf", ".jinja", ".json", ".model", ".safetensors", ".txt", ".xml"})
"""Suffixes of the files that determine a model's replies: weights, configuration, tokeniser and template."""


def content_of(model: Path) -> str:
    """A hash of a model's GGUF file or folder, sixteen hexadecimal digits.

    Large files are sampled, 64 KiB at 64 positions: tuned weights differ in every adapted layer.

    Raises:
        OSError: it cannot be read.
    """
    files = sorted(path for path in model.iterdir() if path.suffix in _SUFFIXES) if model.is_dir() else [model]
    stats = [(path, path.stat()) for path in files if path.is_file()]
    return _content(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats), named=model.is_dir())


def names_in_keys(model: str, answered: Sequence[str] = ()) -> list[str]:
    """The names of an embedded model in ledger keys. They identify its weights, so that a run can be moved.

    A registered model is named by its registry name, a tuned model by its training, any other by its content.

    Args:
        model: `embedded/<name or path>`.
        answered: model strings of calls that were answered before.

    Returns:
        The name, followed by paths under which earlier versions may have stored answers.
    """
    name = model.removeprefix(PREFIX)
    path = path_of(name)
    if name in REGISTRY or not path.exists():
        return [model]
    trained = path.name in TUNED and (path.parent / SPEC).is_file()
    result = read_result(path.parent) if trained else None
    if result is None or not {"method", "fingerprint"} <= result.keys():
        return [f"{PREFIX}sha256:{content_of(path)}", model]
    training = f"{result['method']}-{result['fingerprint']}"
    moved = [each for each in answered if each.endswith(f"/{training}/{path.name}") and each != model]
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
