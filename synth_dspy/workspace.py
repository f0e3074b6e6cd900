"""The workspace: the folder a user edits. It holds `programs/`, `optimizers/`, `eval/` and `data/`.

The engine never imports the workspace by name; this module finds it from the current folder upward and imports what
the command line asks for.
"""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from synth_dspy.errors import SetupError
from synth_dspy.invocation import command
from synth_dspy.reading import read_part

NOTED = "workspace.txt"
"""File of a run that lies outside its workspace: says where that is."""


def find_workspace(start: Path | None = None) -> Path:
    """The nearest folder, from `start` (default: the current one) upward, that holds `programs/`.

    Raises:
        SetupError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "programs" / "__init__.py").is_file():
            return folder
    raise SetupError(
        f"No workspace found: neither {here} nor a folder above it holds programs/. "
        f"Change into your project, or make one with: {command('init', anywhere=True)} my-project"
    )


def task_names(workspace: Path) -> list[str]:
    """Names of the task files in `programs/` (those that do not begin with an underscore)."""
    return sorted(path.stem for path in (workspace / "programs").glob("*.py") if not path.stem.startswith("_"))


def task_file(workspace: Path, name: str) -> Path:
    """The file of the task `name`.

    Raises:
        SetupError: no such task; names those there are.
    """
    names = task_names(workspace)
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Tasks here: {', '.join(names) or 'none'}."
        raise SetupError(f"There is no task named {name!r} in {workspace / 'programs'}. {hint}")
    return workspace / "programs" / f"{name}.py"


def import_from(workspace: Path, module: str) -> ModuleType:
    """Import a module of the workspace, such as `programs.contract_qa`, with the workspace first on the path.

    Raises:
        SetupError: a module of that name from elsewhere is loaded already, or the module itself does not exist.
    """
    if str(workspace) not in sys.path:
        sys.path.insert(0, str(workspace))
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise SetupError(f"The workspace {workspace} has no module {module}.") from error
        raise
    found = Path(loaded.__file__ or "").resolve()
    if not found.is_relative_to(workspace):
        raise SetupError(
            f"{module} was imported from {found}, not from the workspace {workspace}: "
            "another package of that name is installed or loaded; remove it or rename it."
        )
    return loaded


def workspace_of(run: Path) -> Path:
    """The workspace of a run: the one that it notes (`--runs` led out of it), else the nearest one that it lies in.

    Whoever made the run may have noted any folder: see `trust.find_trusted_workspace`.

    Raises:
        SetupError: neither is there.
    """
    try:
        noted = read_part(run / NOTED, 10_000).strip() if (run / NOTED).is_file() else ""
        if noted and (Path(noted) / "programs" / "__init__.py").is_file():
            return Path(noted).resolve()
    except (OSError, ValueError):  # one that nobody can read
        pass
    return find_workspace(run.resolve().parent)
