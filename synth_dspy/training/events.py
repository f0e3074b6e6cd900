"""Events of a running training: JSON lines for a parent process, or a progress bar on a terminal.

{"event": "began"}                                            the spec is being read
{"event": "started", "rows": 64, "left_out": 0, "steps": 16, "tokens": 20480, "estimate_s": 41.0, ...}
{"event": "progress", "step": 3, "steps": 16, "loss": 2.31, "tokens_per_second": 512.0, "remaining_s": 33.2}
{"event": "done", "stays": true, ...}                         result.json's content; whether the process waits for more
{"event": "estimated", ...}                                  with --dry-run, the only event
{"event": "failed", "kind": "memory", "message": "..."}       kind: setup, arm, memory or loss
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

Emit = Callable[[dict[str, Any]], None]
"""Called with one event."""


def json_lines(stream: TextIO) -> Emit:
    """An `Emit` that writes JSON lines."""

    def emit(event: dict[str, Any]) -> None:
        stream.write(json.dumps(event) + "\n")
        stream.flush()

    return emit


@contextmanager
def terminal(stream: TextIO) -> Iterator[Emit]:
    """An `Emit` that shows a progress bar on a terminal, or lines on another stream."""
    from synth_dspy.core.progress import Bars

    bars = Bars(stream)
    with bars.bar("training", None) as bar:

        def emit(event: dict[str, Any]) -> None:
            if event["event"] == "started":
                bars.say(
                    f"{event['rows']} rows ({event['left_out']} left out), {event['tokens']:,} tokens, about "
                    f"{event['estimate_s']:.0f} s and {event['estimate_gib']:.1f} GiB"
                )
            elif event["event"] == "progress":
                bar.reach(event["step"], event["steps"])

        yield emit


@contextmanager
def noise_to(path: Path) -> Iterator[tuple[TextIO, TextIO]]:
    """Redirect standard output and standard error to a file while the block runs, including output of C++ code.

    Yields:
        The original standard output and standard error.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    out, err = (os.fdopen(os.dup(fd), "w", encoding="utf-8") for fd in saved)
    try:
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        yield out, err
    finally:
        try:
            sys.stdout.flush()
        except OSError:  # the disk is full: discard what is buffered, lest it appear on standard output
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        else:
            os.dup2(saved[0], 1)
        with suppress(OSError):
            sys.stderr.flush()
        os.dup2(saved[1], 2)
        for fd in saved:
            os.close(fd)
        out.close()
        err.close()
