"""How commands are invoked, `synth-dspy <verb>` or `python -m synth_dspy.<verb>`, and their special exit statuses."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

SCRIPT = "synth-dspy"
CALL = "compile_task("
"""What the report of a run started from Python shows in place of a command."""
AWAITING_REVIEW = 3
"""Exit status if a person has to review something first."""
BUDGET_REACHED = 4
"""Exit status if a run stopped because its budget is used up; it can be resumed with more."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as a shell reports it."""
CLOSED_PIPE = 141
"""Exit status when the reader of the output is gone: 128 + SIGPIPE."""


def command(verb: str, *, anywhere: bool = False) -> str:
    """The command line for `verb`, in the form that this process was started in.

    Args:
        verb: a command, possibly with its first arguments.
        anywhere: write the program's full path if its name alone would not start it, as in an environment that is not
            activated.
    """
    script = os.path.basename(sys.argv[0]) == SCRIPT
    name, path = (SCRIPT, os.path.abspath(sys.argv[0])) if script else ("python", sys.executable)
    program = shlex.quote(path) if anywhere and shutil.which(name) != path else name
    return f"{program} {verb}" if script else f"{program} -m synth_dspy.{verb}"
