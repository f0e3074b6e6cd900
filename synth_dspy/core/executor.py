"""Concurrent `map` over rows: bounded and in order; a row that fails is an outcome, not a crash.

The executor only bounds concurrency. Retries and back-off belong to the engines, and answers are kept by the ledger: a
run that was killed repeats `map` over the same rows, and calls that were answered before cost nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from synth_dspy.core.errors import SetupError

LEAN = {"disable_history": True, "track_usage": False, "warn_on_type_mismatch": False}
"""Turns off DSPy's own bookkeeping of calls: the ledger keeps the calls and counts their tokens."""

Row = TypeVar("Row")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Value]):
    """The result of a row: its value, or the error that it failed with."""

    value: Value | None = None
    error: Exception | None = None

    def unwrap(self) -> Value:
        """The value.

        Raises:
            Exception: the error, if the row failed.
        """
        if self.error is not None:
            raise self.error
        return cast(Value, self.value)


class Executor:
    """Runs a function over rows, `concurrency` of them at a time.

    For models behind a server, bound the requests by the server's `connections` (see `roles.lm_for`) and give the
    executor twice that concurrency: rows that back off or are being parsed then leave no connection idle.
    """

    def __init__(self, concurrency: int = 16) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        self.concurrency = concurrency

    def map(
        self,
        fn: Callable[[Row], Value | Awaitable[Value]],
        rows: Iterable[Row],
        *,
        progress: Callable[[int], None] | None = None,
        sink: Callable[[Outcome[Value]], None] | None = None,
    ) -> list[Outcome[Value]]:
        """Apply `fn` to every row; rows are pulled from the iterable as workers become free.

        Args:
            fn: a function or coroutine function of one row. Coroutine functions run in one event loop, which is the
                fastest way to make many model calls; other functions run in threads. Both see the caller's DSPy
                settings.
            rows: any iterable.
            progress: called with the number of rows done since the last call.
            sink: called with each outcome when it is there, in the caller's thread or event loop; nothing is kept then,
                so that memory does not grow with the rows.

        Returns:
            The outcomes in the order of the rows; empty with a `sink`.

        Raises:
            SetupError: as soon as a row raises one; rows that have not started are skipped. The same holds for anything
                that is not an `Exception`, such as `KeyboardInterrupt`.
        """
        import dspy

        with dspy.settings.context(**LEAN):
            if not inspect.iscoroutinefunction(inspect.unwrap(fn)):
                return self._map_threads(cast(Callable[[Row], Value], fn), rows, progress, sink)
            run = self._map_async(cast(Callable[[Row], Awaitable[Value]], fn), rows, progress, sink)
            if not in_event_loop():
                return asyncio.run(run)
            return _in_thread(lambda: asyncio.run(run))  # a notebook's own loop is running

    async def _map_async(
        self,
        fn: Callable[[Row], Awaitable[Value]],
        rows: Iterable[Row],
        progress: Callable[[int], None] | None,
        sink: Callable[[Outcome[Value]], None] | None,
    ) -> list[Outcome[Value]]:
        pulled = enumerate(rows)
        outcomes: dict[int, Outcome[Value]] = {}

        async def worker() -> None:
            for index, row in pulled:
                # A task per row: context variables that one row sets do not leak into the worker's next row.
                outcome = await asyncio.create_task(_outcome_async(fn, row))
                if sink:
                    sink(outcome)
                else:
                    outcomes[index] = outcome
                if progress:
                    progress(1)

        # Where a worker raises, asyncio.run cancels the others.
        await asyncio.gather(*(worker() for _ in range(self.concurrency)))
        return [outcomes[index] for index in range(len(outcomes))]

    def _map_threads(
        self,
        fn: Callable[[Row], Value],
        rows: Iterable[Row],
        progress: Callable[[int], None] | None,
        sink: Callable[[Outcome[Value]], None] | None,
    ) -> list[Outcome[Value]]:
        pulled = enumerate(rows)
        pulling = threading.Lock()
        stopped = threading.Event()
        done: SimpleQueue[tuple[int, Outcome[Value]] | BaseException | None] = SimpleQueue()
        context = contextvars.copy_context()

        def worker() -> None:
            try:
                while not stopped.is_set():
                    with pulling:
                        index, row = next(pulled, (-1, None))
                    if index < 0:
                        break
                    done.put((index, context.copy().run(_outcome, fn, cast(Row, row))))
            except BaseException as error:
                done.put(error)
            finally:
                done.put(None)

        # Daemon threads: a row that never ends cannot keep a stopped run alive.
        threads = [threading.Thread(target=worker, daemon=True) for _ in range(self.concurrency)]
        for thread in threads:
            thread.start()
        outcomes: dict[int, Outcome[Value]] = {}
        working = len(threads)
        try:
            while working:
                item = done.get()
                if item is None:
                    working -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    if sink:
                        sink(item[1])
                    else:
                        outcomes[item[0]] = item[1]
                    if progress:
                        progress(1)
        finally:
            stopped.set()
        return [outcomes[index] for index in range(len(outcomes))]


def _outcome(fn: Callable[[Row], Value], row: Row) -> Outcome[Value]:
    try:
        return Outcome(fn(row))
    except Exception as error:
        return _failed(error)


async def _outcome_async(fn: Callable[[Row], Awaitable[Value]], row: Row) -> Outcome[Value]:
    try:
        return Outcome(await fn(row))
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> Outcome[Any]:
    """The outcome of a failed row; re-raises a `SetupError`, which every row would share."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SetupError):
            raise cause
        cause = cause.__cause__
    return Outcome(error=error)


def _in_thread(run: Callable[[], Value]) -> Value:
    """Run a function in a new thread with the caller's context variables, and return its result."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(context.run, run).result()


def in_event_loop() -> bool:
    """Whether the caller runs inside an event loop, which it must not block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
