"""`python -m synth_dspy.init DIR`: a workspace to edit: tasks, recipes, judges and sample data to start from."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command

FOLDERS = ("programs", "optimizers", "eval", "data")
PACKED = Path(__file__).parents[1] / "_starter"


@dataclass(frozen=True)
class InitConfig:
    """Make a workspace."""

    directory: Positional[Path]
    """Folder to make; it may exist, but must not hold any of the workspace's folders."""


def starter() -> Path:
    """Where the starter lies: packed in an installed wheel, beside the package in a checkout.

    Raises:
        SetupError: neither is there.
    """
    for folder in (PACKED, Path(__file__).resolve().parents[2]):
        if all((folder / name).is_dir() for name in FOLDERS):
            return folder
    raise SetupError("This installation lacks the starter workspace: install synth_dspy again.")


def main(args: list[str]) -> int:
    """Copy the starter into the named folder."""
    config = parse(InitConfig, verb="init", description=__doc__ or "", args=args)
    target = config.directory.expanduser()
    taken = [name for name in FOLDERS if (target / name).exists()]
    if taken:
        raise SetupError(f"{target} already holds {', '.join(taken)}: nothing was changed. Name another folder.")
    source = starter()
    try:
        for name in FOLDERS:
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    except OSError as error:
        raise SetupError(f"Could not make the workspace in {target}: {error.strerror or error}.") from error
    then = f"cd {shlex.quote(str(target))}\n    {command('compile', anywhere=True)} contract_qa"
    print(f"{target} is ready. Next:\n\n    {then}")
    return 0
