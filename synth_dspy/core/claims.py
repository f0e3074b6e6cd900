"""Single flight: of several callers that want the outcome under one key, the first computes it and the others wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class AbandonedError(Exception):
    """The holder of a claim gave up without an outcome, so a waiting caller may claim the key."""


class Claims(Generic[Outcome]):
    """The keys whose outcomes are being computed. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, Future[Outcome]] = {}

    def claim(self, key: str) -> tuple[Future[Outcome], bool]:
        """The future outcome under `key`, and whether the caller must compute it, inside `releasing`."""
        with self._lock:
            if key in self._pending:
                return self._pending[key], False
            outcome: Future[Outcome] = Future()
            outcome.set_running_or_notify_cancel()  # a cancelled waiter must not cancel it for the others
            self._pending[key] = outcome
            return outcome, True

    @contextmanager
    def releasing(self, key: str, outcome: Future[Outcome]) -> Iterator[None]:
        """Release the claim at the end; pass an error of the caller on to everyone who waits."""
        try:
            yield
        except Exception as error:
            outcome.set_exception(error)
            raise
        except BaseException:  # cancelled or interrupted: the waiting callers compute it themselves
            outcome.set_exception(AbandonedError())
            raise
        finally:
            with self._lock:
                del self._pending[key]
