"""Who asks for what: of several that want the outcome under one key, the first asks and the others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class AbandonedError(Exception):
    """Whoever was asking for a claimed key gave up without an outcome: who waited may claim it."""


class Claims(Generic[Outcome]):
    """The keys that are being asked for. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: dict[str, Future[Outcome]] = {}

    def claim(self, key: str) -> tuple[Future[Outcome], bool]:
        """The outcome under `key` to come, and whether the caller is to see to it, inside `releasing`."""
        with self._lock:
            if key in self._asking:
                return self._asking[key], False
            asked: Future[Outcome] = Future()
            asked.set_running_or_notify_cancel()  # one who waits and is cancelled must not cancel it for the others
            self._asking[key] = asked
            return asked, True

    @contextmanager
    def releasing(self, key: str, asked: Future[Outcome]) -> Iterator[None]:
        """Hand an error of the caller's on to all who wait, and give the claim back."""
        try:
            yield
        except Exception as error:
            asked.set_exception(error)
            raise
        except BaseException:  # cancelled or interrupted: whoever waits asks for itself
            asked.set_exception(AbandonedError())
            raise
        finally:
            with self._lock:
                del self._asking[key]
