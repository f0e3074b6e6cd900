"""Make a version the champion, which answers: `python -m synth_dspy.promote contract_qa v3 --reason "..."`.

    python -m synth_dspy.promote contract_qa 20260101-120000-ab12:sft     an arm of a finished run
    python -m synth_dspy.promote contract_qa v4 --challenger              gets a part of the traffic first

A running service follows within a second or two, without a restart.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.production import MoveConfig, TaskName, open_registry, print_aliases, runs_of, track
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.core.run import CONFIG
from synth_dspy.core.run_names import find_run
from synth_dspy.loop.records import Version
from synth_dspy.loop.registry import Registry
from synth_dspy.pipeline.saved_files import ABOUT, PROGRAM


class PromoteConfig(MoveConfig):
    """What is promoted."""

    task: TaskName
    """The task's name."""
    version: Positional[Annotated[str, arg(metavar="VERSION|RUN:ARM")]]
    """A version (v3), an alias (challenger), or the id or folder of a finished run and one of its arms."""
    challenger: bool = False
    """Make it the challenger, which gets a part of the service's traffic, and not yet the champion."""
    note: str = ""
    """A note on a version that is new."""


def main(args: list[str]) -> None:
    """Parse `args`, register the arm where it is new, move the alias, print where the aliases are."""
    about = "Make a version, or an arm of a finished run, the champion, which answers."
    config = parse(PromoteConfig, verb="promote", description=about, args=args)
    registry = open_registry(config, config.task)
    runs, name = runs_of(config, config.task), config.version
    if ":" in name:
        name = register_arm(registry, runs, name, config.note).id
    elif (run := _run(name, runs)) is not None:  # a version or an alias is never named so
        raise SetupError(f"{name} is a run: name one of its arms, {name}:ARM, {_one_of(run)}.")
    _warn_of_quick(registry.version(name))
    reason = config.reason or "promoted by hand"
    if config.challenger:
        registry.challenge(name, config.person, reason)
    else:
        registry.promote(name, config.person, reason)
    print_aliases(registry)
    track(registry)


def register_arm(registry: Registry, runs: Path, name: str, note: str = "") -> Version:
    """Make an arm of a finished run a version; one that is registered already is returned as it is.

    Args:
        registry: of the task.
        runs: folder of the task's runs.
        name: RUN:ARM, where RUN is an id, a task and an id, or a folder.
        note: of a person's.

    Raises:
        SetupError: there is no such run or arm, or it is of another task.
    """
    run, _, arm = name.rpartition(":")
    folder = _run(run, runs)
    if folder is None:
        latest = ", ".join(sorted({path.parents[2].name for path in runs.glob(f"*/programs/*/{PROGRAM}")})[-3:])
        raise SetupError(
            f"There is no run {run!r} in {runs}; {f'the latest are {latest}' if latest else 'there are none yet'}. "
            "If it was made with --runs, give the same --runs here, or name the run by its folder."
        )
    about = folder / "programs" / arm / ABOUT
    described = read_json_object(about) if about.is_file() else {}
    if described.get("task", registry.store.task) != registry.store.task:
        raise SetupError(f"The run {folder} is of the task {described['task']}, not of {registry.store.task}.")
    if not (folder / "results.json").is_file():
        print(
            f"warning: the run {folder} is not finished, so {arm} was not scored.",
            file=sys.stderr,
        )
    seed = (described.get("config") or {}).get("seed")
    return registry.register(folder, arm, seeds={} if seed is None else {"run": seed}, note=note)


def _run(name: str, runs: Path) -> Path | None:
    """The folder of a run that is named by its id, its task and id, or its folder; None if there is none."""
    own = runs / name  # the task's own comes first, whatever lies in the current folder
    folder = own if name and own.is_dir() else find_run(name, runs.parent)
    return folder if (folder / CONFIG).is_file() or any(folder.glob(f"programs/*/{PROGRAM}")) else None


def _one_of(run: Path) -> str:
    """The arms of a run that can be promoted, for a message."""
    arms = ", ".join(sorted(path.parent.name for path in run.glob(f"programs/*/{PROGRAM}")))
    return f"one of {arms}" if arms else "once it is finished"


def _warn_of_quick(version: Version) -> None:
    """Say that a version comes from a quick run, which shows only that everything works."""
    about = Path(version.run) / "programs" / version.arm / ABOUT
    config = read_json_object(about).get("config") if about.is_file() else None
    if isinstance(config, dict) and config.get("quick"):
        print(
            f"warning: {version.id} comes from a --quick run, with few items and short training, so its scores say "
            "little: compile in full before it answers people.",
            file=sys.stderr,
        )
