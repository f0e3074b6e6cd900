"""Turns at computing: so many at once, and none is spent on a caller who has gone."""

from __future__ import annotations

import asyncio
import time


class Turns:
    """Who may compute next.

    It is the oldest who waits, but once that one has waited too long, the newest: where more come than can be answered
    in time, those who have nearly used up their time would get their turns too late, each of them.

    Args:
        count: turns at once.
        patience_s: seconds of waiting that are not too long.
    """

    def __init__(self, count: int, patience_s: float) -> None:
        self._free = count
        self._patience_s = patience_s
        self._waiting: dict[asyncio.Future[None], float] = {}

    async def take(self) -> None:
        """Wait for a turn; whoever is cancelled meanwhile takes none."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = time.monotonic()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it had come at that moment
                self.give_back()
            raise
        finally:
            self._waiting.pop(turn, None)

    def give_back(self) -> None:
        """End a turn: the next one's begins."""
        waiting = [turn for turn in self._waiting if not turn.done()]
        if not waiting:
            self._free += 1
            return
        is_late = time.monotonic() - self._waiting[waiting[0]] > self._patience_s
        waiting[-1 if is_late else 0].set_result(None)
