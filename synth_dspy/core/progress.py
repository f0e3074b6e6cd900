"""Progress of long steps: bars with a rate and an estimate on a terminal, a block in a notebook, lines elsewhere."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from synth_dspy.core.notebook import Block, in_notebook
from synth_dspy.core.terminal import PipeConsole


class Bar:
    """A running step: call it with the number of units done since the last call."""

    def __init__(
        self, total: int | None, show: Callable[[int, int | None], None] | None = None, *, afterwards: str = ""
    ) -> None:
        self.done = 0
        self.total = total
        self._show = show
        self._afterwards = afterwards

    def __call__(self, units: int = 1) -> None:
        self.reach(self.done + units, self.total)

    def reach(self, done: int, total: int | None) -> None:
        """Show `done` of `total` units, for a step whose total is not known at the start."""
        self.done, self.total = done, total
        if self._show:
            self._show(done, total)

    def outlook(self, before: int, seconds: float) -> str:
        """The rate, and the time that is left at this rate: ", 41/s, about 12 min left"; empty if nothing was counted.

        Args:
            before: how many units were done some time ago.
            seconds: how long ago. Not since the start: a resumed step begins with what costs nothing.
        """
        if self.total is not None and self.done >= self.total:
            return self.rest
        if self.done <= before or not seconds:
            return ""
        rate = (self.done - before) / seconds
        shown = f", {rate:,.{0 if rate >= 10 else 2}f}/s"
        if self.total is None:
            return shown
        left = (self.total - self.done) / rate
        return f"{shown}, about {f'{left:.0f} s' if left < 120 else f'{left / 60:,.0f} min'} left"

    @property
    def rest(self) -> str:
        """What the step does once all units are done: ", merging"; empty before that, or if it does nothing more."""
        is_done = self.total is not None and self.done >= self.total
        return f", {self._afterwards}" if is_done and self._afterwards else ""

    def __str__(self) -> str:
        """As part of a line: ", 3 of 8"; empty if nothing was counted."""
        if self.total is None:
            return f", {self.done:,}" if self.done else ""
        return f", {self.done:,} of {self.total:,}"


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class Bars:
    """Progress on standard error, in a handle of its own, so that the output of libraries can be redirected.

    Args:
        file: the stream to write to instead.
        every_s: seconds between the lines about a running step, without a terminal.
    """

    def __init__(self, file: TextIO | None = None, *, every_s: float = 30.0) -> None:
        stream = sys.stderr if file is None else file
        self.console = PipeConsole(file=stream, force_jupyter=False)
        # rich treats a file as a terminal if FORCE_COLOR is set, as many CI systems do.
        self._animated = self.console.is_interactive and stream.isatty()
        self._every_s = every_s
        self._block = Block() if file is None and in_notebook() else None

    def say(self, sentence: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._block is not None:
            self._block.say(sentence)
            return
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def status(self, label: str) -> Iterator[None]:
        """Show what is going on while the block runs, without a count."""
        with self.console.status(label) if self._animated else self.bar(label, None):
            yield

    @contextmanager
    def bar(self, label: str, total: int | None, *, afterwards: str = "") -> Iterator[Bar]:
        """Show one step while the block runs.

        Args:
            label: a short description of the step.
            total: number of units; None if unknown.
            afterwards: what the step still does once all units are done.
        """
        if self._block is not None:
            with self._updated(self._block, label, total, afterwards) as bar:
                yield bar
            return
        if not self._animated:
            with self._lines(label, total, afterwards) as bar:
                yield bar
            return
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(*columns, console=self.console, redirect_stdout=False, redirect_stderr=False) as progress:
            shown = progress.add_task(label, total=total)

            def show(done: int, total: int | None) -> None:
                progress.update(shown, completed=done, total=total, description=f"{label}{bar.rest}")

            bar = Bar(total, show, afterwards=afterwards)
            yield bar

    @contextmanager
    def _updated(self, block: Block, label: str, total: int | None, afterwards: str) -> Iterator[Bar]:
        """Show in a notebook's block how far the step is, and add a line to it at the end."""
        started = time.monotonic()
        bar = Bar(total, lambda done, total: block.show(f"{label}{bar}{bar.rest}"), afterwards=afterwards)
        block.show(label, at_once=True)
        yield bar
        block.say(f"{label}: {_in_seconds(time.monotonic() - started)}{bar}")

    @contextmanager
    def _lines(self, label: str, total: int | None, afterwards: str) -> Iterator[Bar]:
        """Print a line when the block starts, every `every_s` seconds while it runs, and when it ends."""
        bar, started, ended = Bar(total, afterwards=afterwards), time.monotonic(), threading.Event()
        last = (started, 0)

        def line(state: str, *, running: bool = False) -> None:
            nonlocal last
            seconds, (then, before) = time.monotonic() - started, last
            ahead = bar.outlook(before, started + seconds - then) if running else ""
            last = (started + seconds, bar.done)
            self.say(f"{label}: {state} {_in_seconds(seconds)}{bar}{ahead}")

        def beat() -> None:  # in a thread: many steps count nothing
            while not ended.wait(self._every_s):
                try:
                    line("running for", running=True)
                except SystemExit:  # the reader is gone: interrupt the main thread
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                    return

        self.say(f"{label}: begins")
        thread = threading.Thread(target=beat, daemon=True, name=f"progress of {label}")
        thread.start()
        try:
            yield bar
        finally:
            ended.set()
            thread.join()
        line("took")


def _in_seconds(seconds: float) -> str:
    return f"{seconds:.{1 if seconds < 10 else 0}f} s"
