"""Consoles for standard output and standard error, on terminals and in pipes."""

from __future__ import annotations

import sys
from typing import NoReturn

from rich.console import Console

from synth_dspy.core.invocation import CLOSED_PIPE

_UNBOUNDED = 1000
"""Width without a terminal: tables are as wide as their content, and nothing is cut."""


class PipeConsole(Console):
    """A console that ends the process quietly, with status `CLOSED_PIPE`, when its pipe is closed.

    It raises `SystemExit`, which handlers of `Exception` let through; a `BrokenPipeError` would be reported as the
    reason of a failed arm.
    """

    def on_broken_pipe(self) -> NoReturn:
        """Called by rich in place of a `BrokenPipeError`."""
        raise SystemExit(CLOSED_PIPE)


def standard_output() -> Console:
    """Standard output without markup, since names may contain brackets."""
    width = None if sys.stdout.isatty() else _UNBOUNDED
    return PipeConsole(markup=False, highlight=False, width=width)
