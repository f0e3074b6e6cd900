"""Writes records to the store in groups: those that wait are committed together, and each is acknowledged after it.

An answer is sent once its request has been committed, so that a service that is killed has lost none that anybody has
seen. At 64 requests at once a commit serves many of them, and none waits for more than the one under way.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.store import Store

log = logging.getLogger("synth_dspy.service.writer")

MOST = 256
"""Records in one commit."""
_Item = tuple[Any, "Future[bool]"]


class Writer:
    """The thread that writes.

    Args:
        store: where to.
        committed: called with the number of records of each commit.
    """

    def __init__(self, store: Store, committed: Callable[[int], None] = lambda count: None) -> None:
        self._store = store
        self._committed = committed
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    async def add(self, record: Request | Feedback) -> bool:
        """Keep a record.

        Returns:
            False where there is one with its id already; True once it is committed.

        Raises:
            Exception: it could not be written: a full disk, say.
        """
        done: Future[bool] = Future()
        self._queue.put((record, done))
        return await asyncio.shield(asyncio.wrap_future(done))  # whoever stops waiting takes nothing back

    def close(self) -> None:
        """Write what is left, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ends = False
        while not ends:
            group = [self._queue.get()]
            while len(group) < MOST and not self._queue.empty():
                group.append(self._queue.get())
            ends = None in group
            self._write([item for item in group if item is not None])

    def _write(self, items: list[_Item]) -> None:
        if not items:
            return
        try:
            together = self._store.add_together([record for record, _ in items])
            for record, done in items:  # where one is there already, the others are written without it
                done.set_result(together or self._store.add(record))
            self._committed(len(items))
        except Exception as error:
            log.error("%d records could not be written: %s", len(items), error)
            for _, done in items:
                if not done.done():
                    done.set_exception(error)
