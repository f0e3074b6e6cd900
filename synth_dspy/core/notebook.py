"""Output in a notebook: one block of a cell that is updated. Lines would fill the cell, and bars need a terminal."""

from __future__ import annotations

import html
import sys
import threading
import time
from typing import Any

_EVERY_S = 0.5
"""Seconds between two updates: each is a message to the browser."""


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this process. Where nobody has imported IPython, there is none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class Block:
    """What a long call is doing, with all that it has said folded away below. May be used from several threads."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._lines: list[str] = []
        self._due = 0.0
        self._lock = threading.Lock()

    def say(self, line: str) -> None:
        """Add a line."""
        self._lines.append(line)
        self.show(line, at_once=True)

    def show(self, state: str, *, at_once: bool = False) -> None:
        """Replace the state, unless that was just done.

        Args:
            state: on one line.
            at_once: show it however recently another was shown.
        """
        with self._lock:
            if not at_once and time.monotonic() < self._due:
                return
            self._due = time.monotonic() + _EVERY_S
            lines = html.escape("\n".join(self._lines))
            text = f"<details><summary>{html.escape(state)}</summary><pre>{lines}</pre></details>"
            data = {"text/html": text, "text/plain": state}
            if self._handle is None:
                from IPython.display import DisplayHandle

                self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
                self._handle.display(data, raw=True)
            else:
                self._handle.update(data, raw=True)
