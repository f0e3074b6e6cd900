"""Attribution and cost of model calls.

`with unit(station=..., source=..., arm=...)` attributes the calls inside it, `with measure() as usage` sums their cost.
Both travel in DSPy's settings, which DSPy passes on to the threads and tasks that it starts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Unit:
    """What a call is made for: the stage of the run (`station`), the item (`source`) and the arm."""

    station: str = ""
    source: str = ""
    arm: str = ""


@dataclass(frozen=True, slots=True)
class ModelCall:
    """An answered call. `status` is `answered`, or `refused` if a retry would get the same refusal.

    `response` is JSON: a `dspy.lm15.Response` in canonical form, a chat completion as sent by an OpenAI-compatible
    server (it has the key `choices`), or the refusal's message. Tokens, seconds and US dollars are None if unknown.
    `latency_s` is of the answered attempt, the last of `attempts`; but DSPy's own clients do not tell theirs apart.
    """

    key: str
    response: str
    model: str
    role: str
    unit: Unit = Unit()
    status: str = "answered"
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None
    cpu_s: float | None = None
    cost_usd: float | None = None
    attempts: int = 1

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, which `ModelCall.from_dict` reads."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "unit": [self.unit.station, self.unit.source, self.unit.arm]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelCall:
        return cls(**{**values, "unit": Unit(*values["unit"])})


@dataclass
class Usage:
    """Total cost of the calls inside a `measure()` block; cache hits count with their original figures."""

    calls: int = 0
    from_ledger: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    latency_s: float = 0.0
    cpu_s: float = 0.0
    cost_usd: float | None = 0.0
    """None if the price of any of the calls is unknown."""
    retries: int = 0
    """Attempts that failed before the answered ones; as the waits between, they are not part of the latency."""
    truncated: int = 0
    """Replies that were cut off at the token limit."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, call: ModelCall, *, from_ledger: bool, truncated: bool = False) -> None:
        with self._lock:
            self.truncated += truncated
            self.calls += 1
            self.retries += call.attempts - 1
            self.from_ledger += from_ledger
            self.input_tokens += call.input_tokens or 0
            self.output_tokens += call.output_tokens or 0
            self.latency_s += call.latency_s or 0.0
            self.cpu_s += call.cpu_s or 0.0
            unknown = self.cost_usd is None or call.cost_usd is None
            self.cost_usd = None if unknown else (self.cost_usd or 0.0) + (call.cost_usd or 0.0)


@contextmanager
def unit(*, station: str | None = None, source: str | None = None, arm: str | None = None) -> Iterator[None]:
    """See `Ledger.unit`."""
    import dspy

    given = {"station": station, "source": source, "arm": arm}
    inner = replace(current_unit(), **{name: value for name, value in given.items() if value is not None})
    with dspy.settings.context(ledger_unit=inner):
        yield


@contextmanager
def measure() -> Iterator[Usage]:
    """See `Ledger.measure`."""
    import dspy

    usage = Usage()
    with dspy.settings.context(ledger_usages=(*dspy.settings.get("ledger_usages", ()), usage)):
        yield usage


def current_unit() -> Unit:
    """The unit of the innermost `unit(...)` block around the caller."""
    import dspy

    current: Unit = dspy.settings.get("ledger_unit", Unit())
    return current


def count_usage(call: ModelCall, *, from_ledger: bool, truncated: bool = False) -> None:
    """Add a call, and whether its reply was cut off, to every `measure()` block around the caller."""
    import dspy

    for usage in dspy.settings.get("ledger_usages", ()):
        usage.add(call, from_ledger=from_ledger, truncated=truncated)
