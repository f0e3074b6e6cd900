"""A run as a command names it: by its folder, by its id, or by its task and id."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.s3.address import is_address
from synth_dspy.core.workspace import find_workspace


def find_run(named: Path | str, runs: Path | None = None) -> Path:
    """The folder of a run, or a path below it, such as `<id>/programs/sft`.

    Args:
        named: a path, or one that begins with the id of a run of the workspace or with `<task>/<id>`.
        runs: folder of all runs; by default the workspace's `runs`.

    Returns:
        The path as it is named if it exists, or if no run has that name.

    Raises:
        SetupError: runs of several tasks have that id.
    """
    path = Path(named).expanduser()
    if is_address(named) or path.is_absolute() or not path.parts or path.exists():
        return path
    if runs is None:
        with suppress(SetupError):  # outside a workspace only paths name runs
            runs = find_workspace() / CompileConfig.model_fields["runs"].default
    if runs is None or not runs.is_dir() or ".." in path.parts:
        return path
    candidates = [each / path for each in sorted(runs.iterdir()) if (each / path).exists()]
    if len(path.parts) > 1 and (runs / path).exists():
        candidates.append(runs / path)
    if len(candidates) > 1:
        raise SetupError(f"{named} may be {' or '.join(map(str, candidates))}: name the folder.")
    return candidates[0] if candidates else path


RunPath = Annotated[Path, AfterValidator(find_run)]
"""A run, or a path below it, as an argument of a command: see `find_run`."""
