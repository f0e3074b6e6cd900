"""The workspace: the user's folder, with `programs/`, `optimizers/`, `eval/` and `data/`.

The engine never imports the workspace by name; this module finds it, in the current folder or above, and imports what
the command line names.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from synth_dspy.core.errors import SetupError, SynthDspyError
from synth_dspy.core.invocation import command
from synth_dspy.core.io.reading import read_part

ROOTS = ("programs", "optimizers", "eval", "domains")
"""Packages of a workspace."""
_modified_at: dict[Path, float] = {}
"""Modification times of the files of imported modules."""
WORKSPACE_FILE = "workspace.txt"
"""File in a run outside its workspace that holds the workspace's path."""


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
        f"Change into your project, or make one with: {command('init', anywhere=True)} my-project (for documents: "
        f"{command('init', anywhere=True)} my-project --from doc_qa)"
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
        if (holder := _declaring(workspace, name)) is not None:
            hint = f"{holder} declares a function {name}, but a task has its file's name: move it to {name}.py."
        raise SetupError(f"There is no task named {name!r} in {workspace / 'programs'}. {hint}")
    return workspace / "programs" / f"{name}.py"


def _declaring(workspace: Path, name: str) -> Path | None:
    """A task file with a function of this name, which may be another file's task."""
    declaration = re.compile(rf"^def {re.escape(name)}\(".encode(), re.MULTILINE)
    files = sorted((workspace / "programs").glob("*.py"))
    return next((file for file in files if declaration.search(file.read_bytes())), None)


def import_from(workspace: Path, module: str) -> ModuleType:
    """Import a module of the workspace, such as `programs.contract_qa`, with the workspace first on `sys.path`.

    Raises:
        SetupError: the module does not exist, or one of that name from elsewhere is loaded already.
    """
    _unload_stale_modules(workspace)
    if sys.path[:1] != [str(workspace)]:
        sys.path.insert(0, str(workspace))
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module.startswith(error.name):
            raise SetupError(f"The workspace {workspace} has no module {module}.") from error
        raise
    path = Path(loaded.__file__ or "").resolve()
    if not path.is_relative_to(workspace):
        raise SetupError(
            f"{module} was imported from {path}, not from the workspace {workspace}: "
            "another package of that name is installed or loaded; remove it or rename it."
        )
    return loaded


def _unload_stale_modules(workspace: Path) -> None:
    """Unload modules of other workspaces, and all if a file has changed, so that they are imported again."""
    own = {
        name: Path(str(module.__file__))
        for name, module in sys.modules.items()
        if name.split(".")[0] in ROOTS and getattr(module, "__file__", None)
    }
    times = {file: _modification_time(file) for file in own.values()}
    changed = any(_modified_at.setdefault(file, modified) != modified for file, modified in times.items())
    if changed or any(_workspace_around(file) not in (workspace, None) for file in own.values()):
        for name, file in own.items():
            del sys.modules[name]
            _modified_at.pop(file, None)
        importlib.invalidate_caches()


def _modification_time(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _workspace_around(file: Path) -> Path | None:
    """The workspace that contains a module's file."""
    return next((folder for folder in file.resolve().parents if (folder / "programs" / "__init__.py").is_file()), None)


@contextmanager
def explain_errors(workspace: Path) -> Iterator[None]:
    """Turn whatever the workspace's own code raises into one sentence with its file and line.

    Raises:
        SetupError: the code failed.
    """
    try:
        yield
    except SynthDspyError:
        raise
    except Exception as error:
        place = failing_line(error, workspace)
        message = str(error).split(" (")[0] if isinstance(error, ImportError) else str(error)
        wanted = re.match(r"cannot import name '(\w+)'", message)  # Python 3.11 has it only in the message
        close = get_close_matches(wanted[1], _names(getattr(error, "name", None)), n=1) if wanted else []
        hint = f" Did you mean {close[0]}?" if close else ""
        raise SetupError(f"{place}{type(error).__name__}: {message}.{hint}") from error


def failing_line(error: BaseException, workspace: Path) -> str:
    """The line of the workspace's code that raised an error, as `file:line: `; empty if other code raised it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: "
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).resolve().is_relative_to(workspace)]
    return f"{own[-1].filename}:{own[-1].lineno}: " if own else ""


def _names(module: str | None) -> list[str]:
    """The names that can be imported from a module."""
    loaded = sys.modules.get(module or "")
    return [] if loaded is None else list(getattr(loaded, "__all__", None) or dir(loaded))


def workspace_of(run: Path) -> Path:
    """The workspace of a run: the recorded one if `--runs` led outside it, else the nearest one above the run.

    Whoever made the run may have recorded any folder: see `trust.find_trusted_workspace`.

    Raises:
        SetupError: there is neither.
    """
    try:
        recorded = read_part(run / WORKSPACE_FILE, 10_000).strip() if (run / WORKSPACE_FILE).is_file() else ""
        if recorded and (Path(recorded) / "programs" / "__init__.py").is_file():
            return Path(recorded).resolve()
    except (OSError, ValueError):  # unreadable
        pass
    return find_workspace(run.resolve().parent)
