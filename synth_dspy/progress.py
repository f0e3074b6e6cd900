"""Progress of long work: one bar per station with a rate and an estimate; silent when not on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Advance = Callable[[int], None]
"""`advance(n)`: n more units are done."""


class Bar:
    """A bar under way: call it with the number of units done since the last call."""

    def __init__(self, advance: Advance, resize: Advance) -> None:
        self._advance = advance
        self._resize = resize
        self._done = 0

    def __call__(self, units: int = 1) -> None:
        self._done += units
        self._advance(units)

    def reach(self, done: int, total: int) -> None:
        """Show `done` of `total` units, for work that only learns its total on the way."""
        self._resize(total)
        self(done - self._done)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class Bars:
    """Progress bars on standard error. They keep their own handle, so libraries' prints can be sent elsewhere."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr)

    @contextmanager
    def bar(self, label: str, total: int | None) -> Iterator[Bar]:
        """Show one bar while the block runs.

        Args:
            label: what is going on, a few words.
            total: units in all; None if unknown.
        """
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        )
        with Progress(
            *columns,
            console=self.console,
            disable=not self.console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as progress:
            shown = progress.add_task(label, total=total)
            yield Bar(lambda n: progress.advance(shown, n), lambda total: progress.update(shown, total=total))
