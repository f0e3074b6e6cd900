"""Consoles: standard output and error as people and pipes read them."""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console

from synth_dspy.core.invocation import CLOSED_PIPE

_UNBOUNDED = 1000
"""Columns where there is no terminal: tables are as wide as their content, and nothing is cut."""


class PipeConsole(Console):
    """A console whose closed pipe ends the process quietly, with `CLOSED_PIPE`.

    rich raises `SystemExit`, which passes those who make a finding of every `Exception`; a `BrokenPipeError` would
    end as the reason of a failed arm.
    """

    def on_broken_pipe(self) -> NoReturn:
        """Called by rich in place of a `BrokenPipeError`."""
        raise SystemExit(CLOSED_PIPE)


def standard_output() -> Console:
    """Standard output, with texts as they are: names may hold brackets."""
    width = None if sys.stdout.isatty() else _UNBOUNDED
    return PipeConsole(markup=False, highlight=False, width=width)
