"""List the weights this project knows, and fetch them: `python -m synth_dspy.weights [pull NAME ...]`.

    python -m synth_dspy.weights                                  name, size, licence, and the path if it is cached
    python -m synth_dspy.weights pull smollm2-135m-instruct       fetch (or do nothing, if it is there)
    python -m synth_dspy.weights pull all                         everything that compile needs by default

The cache is SYNTH_DSPY_HOME (default: your user's cache folder). Commands fetch what they need on first use; this one
is for doing it beforehand.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from synth_dspy.errors import SetupError

DEFAULTS = ("smollm2-135m-instruct", "all-minilm-l6-v2")


@dataclass(frozen=True)
class Weights:
    """What to do."""

    action: Literal["list", "pull"] = "list"
    names: tuple[str, ...] = ()


def main(args: list[str]) -> int:
    """Run the verb with the arguments after its name; returns the exit status."""
    import tyro

    command = tyro.cli(
        tyro.conf.configure(tyro.conf.PositionalRequiredArgs)(_run),
        prog="python -m synth_dspy.weights",
        description=__doc__,
        args=args,
    )
    return command


def _run(
    action: Annotated[Literal["list", "pull"], "x"] = "list",
    names: tuple[str, ...] = (),
) -> int:
    return 0
