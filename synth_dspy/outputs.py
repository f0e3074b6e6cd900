"""What verbs write where a user says (`--out`): never over what is there, unless told so by `--force`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from synth_dspy.errors import SetupError


def refuse_to_overwrite(paths: Iterable[Path], *, force: bool, flag: str = "--out") -> None:
    """Look at what is about to be written, before any work is done for it.

    Args:
        paths: the files.
        force: whether the user said `--force`.
        flag: what another place is named with.

    Raises:
        SetupError: one of them is there and `force` was not said, or is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise SetupError(f"{path} is a folder, where a file is to be written: name another place with {flag}.")
        if path.exists() and not force:
            raise SetupError(f"{path} is there already: name another place with {flag}, or write over it with --force.")
