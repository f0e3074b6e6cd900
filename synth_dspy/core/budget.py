"""A budget of money and time: what it has spent, and the stop when it is used up.

A ledger asks its budget before every call that it cannot answer itself. What is under way when the limit is reached is
finished and kept, so a run overspends by at most the calls in flight, and usually by nothing: a call is admitted only
if the mean cost of its kind still fits, in addition to those that are under way. A training job holds what it may cost
at most, and is given no more than is left.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from synth_dspy.core.errors import BudgetReached
from synth_dspy.core.usage import ModelCall

TRAINING = "training"
"""The role of training jobs, which a ledger keeps among its calls since they are paid and made once."""
Kind = tuple[str, str]
"""Role and model, whose calls are taken to cost about the same."""


class Budget:
    """Limits that a ledger keeps to; thread-safe. Without limits it counts only.

    Args:
        max_usd: limit of what all calls and training jobs of the run cost, those of earlier starts included, in US
            dollars.
        max_minutes: limit of the time from now on.
    """

    def __init__(self, max_usd: float | None = None, max_minutes: float | None = None) -> None:
        self.max_usd = max_usd
        self.max_minutes = max_minutes
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._spent: defaultdict[Kind, float] = defaultdict(float)
        self._calls: defaultdict[Kind, int] = defaultdict(int)
        self._in_flight: defaultdict[Kind, int] = defaultdict(int)
        self._held_by_jobs = 0.0
        self._reached = ""
        self.resume_command = ""

    @property
    def spent_usd(self) -> float:
        """The cost of all calls and jobs so far, in US dollars; those without a price count as free."""
        return sum(self._spent.values())

    @property
    def remaining_s(self) -> float | None:
        """Seconds until the time limit, at least 0; None without one."""
        if self.max_minutes is None:
            return None
        return max(0.0, self._began + 60 * self.max_minutes - time.monotonic())

    def start(self, earlier: Mapping[Kind, tuple[int, float]], resume_command: str) -> None:
        """Count what earlier starts of the run have spent: by kind, the number of priced calls and their cost."""
        self.resume_command = resume_command
        for kind, (calls, cost) in earlier.items():
            self._calls[kind] += calls
            self._spent[kind] += cost

    def check(self) -> None:
        """Raise if the time is up, or a call was refused before.

        Raises:
            BudgetReached: says what was spent and how to go on.
        """
        if not self._reached and self.remaining_s == 0.0:
            self._reached = f"The time limit of {self.max_minutes:g} minutes (--max-minutes) is reached"
        self.check_refused()

    def check_refused(self) -> None:
        """Raise if a call was refused before: nothing that was made without it is to be kept.

        Raises:
            BudgetReached: as `check`.
        """
        if self._reached:
            raise self._stop()

    @contextmanager
    def spending(self, kind: Kind) -> Iterator[Callable[[ModelCall], ModelCall]]:
        """Admit a call, and hold its probable cost while it is under way.

        Yields:
            A function that counts the answered call and returns it.

        Raises:
            BudgetReached: the limit is reached.
        """
        self.check()
        with self._lock:
            if self.max_usd is not None and (self._left() < self._mean(kind) or self.spent_usd >= self.max_usd):
                self._reached = f"The budget of ${self.max_usd:g} (--max-usd) is used up"
                raise self._stop()
            self._in_flight[kind] += 1
        try:
            yield lambda call: self.count(kind, call)
        finally:
            with self._lock:
                self._in_flight[kind] -= 1

    @contextmanager
    def holding(self, most_usd: float, least_usd: float, what: str) -> Iterator[float]:
        """Hold what a job may cost while it is under way.

        Args:
            most_usd: what it costs if nothing stops it, in US dollars.
            least_usd: what it costs at least, to be of any use.
            what: the job, in the sentence that refuses it.

        Yields:
            What it may cost: `most_usd`, or what is left.

        Raises:
            BudgetReached: less than `least_usd` is left.
        """
        self.check()
        with self._lock:
            granted = min(most_usd, self._left())
            if granted < least_usd:
                self._reached = (
                    f"The budget of ${self.max_usd:g} (--max-usd) has no room for {what} (at least ${least_usd:.2f})"
                )
                raise self._stop()
            self._held_by_jobs += granted
        try:
            yield granted
        finally:
            with self._lock:
                self._held_by_jobs -= granted

    def _left(self) -> float:
        """US dollars that are neither spent nor held; infinite without a limit."""
        if self.max_usd is None:
            return math.inf
        held = sum(count * self._mean(kind) for kind, count in self._in_flight.items())
        return self.max_usd - self.spent_usd - held - self._held_by_jobs

    def count(self, kind: Kind, call: ModelCall) -> ModelCall:
        """Count a call or a job, and return it."""
        if call.cost_usd is not None:
            with self._lock:
                self._calls[kind] += 1
                self._spent[kind] += call.cost_usd
        return call

    def _mean(self, kind: Kind) -> float:
        return self._spent[kind] / self._calls[kind] if self._calls[kind] else 0.0

    def _stop(self) -> BudgetReached:
        how = f"`{self.resume_command}`" if self.resume_command else "the same command"
        jobs = sum(count for (role, _), count in self._calls.items() if role == TRAINING)
        calls = f"{sum(self._calls.values()) - jobs:,} priced calls"
        return BudgetReached(
            f"{self._reached}: ${self.spent_usd:.4f} spent in {calls}{f' and {jobs} training jobs' if jobs else ''}, "
            f"and no answered call is lost. Go on by {how} with a higher limit."
        )


UNLIMITED = Budget()
"""For calls without a ledger."""
