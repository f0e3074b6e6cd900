"""What `serve`, `versions`, `promote` and `rollback` share: the store of a task, and tables of its versions.

Nothing here imports DSPy: a rollback, from typing it to its last line, takes less than a second.
"""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

from pydantic import Field
from tyro.conf import Positional, arg

from synth_dspy.core.config import CompileConfig, Settings
from synth_dspy.core.io.files import limit_access
from synth_dspy.core.printable import printable_name
from synth_dspy.core.workspace import find_workspace, task_file
from synth_dspy.loop.records import Alias, AliasMove
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import FILE, Store

TaskName = Positional[Annotated[str, arg(metavar="TASK")]]
ALIASES: tuple[Alias, ...] = get_args(Alias)


class ProductionConfig(Settings):
    """Where a task's versions are kept."""

    store: str | None = None
    """Database of versions, requests and feedback: a file, or a URL such as postgresql+psycopg://USER@HOST/NAME
    (password in PGPASSWORD); by default production.sqlite in the folder of the task's runs."""
    runs: Path = CompileConfig.model_fields["runs"].default
    """Folder of all runs, as in `compile --runs`; a relative one begins at the workspace."""


class MoveConfig(ProductionConfig):
    """Who moves an alias, and why."""

    by: str = Field(default_factory=getpass.getuser)
    """Your name, as the history of versions will show it."""
    reason: str = ""
    """Why, in your words."""

    @property
    def person(self) -> str:
        """Who moves it, as it is recorded."""
        return f"person:{self.by}"


def runs_of(config: ProductionConfig, task: str) -> Path:
    """The folder of a task's runs.

    Raises:
        SetupError: there is no such task.
    """
    workspace = find_workspace()
    task_file(workspace, task)
    return workspace / config.runs.expanduser() / task


def open_registry(config: ProductionConfig, task: str) -> Registry:
    """The versions of a task.

    Raises:
        SetupError: there is no such task, or its store cannot be opened.
    """
    folder = runs_of(config, task)
    limit_access(share=False)  # it will hold people's questions
    return Registry(Store.open(config.store or folder / FILE, task))


def print_aliases(registry: Registry) -> None:
    """Print which version each alias is on, since when, by whom and why."""
    rows = []
    for alias in ALIASES:
        moves = registry.store.read(AliasMove, alias=alias, last=1)
        if moves:
            move = moves[0]
            when = f"{move.at:%Y-%m-%d %H:%M:%S}Z"
            rows.append((alias, move.version or "-", when, move.by, printable_name(move.reason)))
    print_table(("alias", "version", "since", "by", "reason"), rows)


def track(registry: Registry) -> None:
    """Copy what has changed into MLflow, where SYNTH_DSPY_TRACK says so; one warning where that fails."""
    from synth_dspy.pipeline.tracking import tracking_uri

    if tracking_uri() is not None:
        from synth_dspy.loop.mlflow import track_store

        track_store(registry.store)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as their contents; rich would take a third of a rollback's time to import."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
