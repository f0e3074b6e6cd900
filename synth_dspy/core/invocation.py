"""How a verb is called, `synth-dspy <verb>` or `python -m synth_dspy.<verb>` as this process was; how it may end."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

SCRIPT = "synth-dspy"
CALL = "compile_task("
"""How a run of a program in memory was called: its report has this in place of a command."""
AWAITING_REVIEW = 3
"""Exit status of work that waits for a person."""
INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as a shell reports it."""
CLOSED_PIPE = 141
"""Exit status when whoever read the output has gone: 128 + SIGPIPE."""


def command(verb: str, *, anywhere: bool = False) -> str:
    """What to type for `verb`, in the form that this process was started in.

    Args:
        verb: a command, perhaps with its first arguments.
        anywhere: write the program's path where its name alone would start another one or none, as in an environment
            that is not activated.
    """
    script = os.path.basename(sys.argv[0]) == SCRIPT
    name, path = (SCRIPT, os.path.abspath(sys.argv[0])) if script else ("python", sys.executable)
    program = shlex.quote(path) if anywhere and shutil.which(name) != path else name
    return f"{program} {verb}" if script else f"{program} -m synth_dspy.{verb}"
