"""What a run will probably cost, shown before its first call: calls, tokens, minutes, US dollars.

Tokens and seconds per call are those of a former run of the task, from its ledger; without one, stated defaults.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger_file import LEDGER, connect
from synth_dspy.core.text import counted
from synth_dspy.models.prices import Price

DEFAULT_TOKENS = (700.0, 100.0)
"""Input and output tokens of a call that nothing is known about."""
DEFAULT_SECONDS = 1.0
"""Seconds of such a call."""
FREE: Price = (0.0, 0.0)
"""The price of a model on this machine."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What calls of a kind cost on average.

    Attributes:
        per_item: calls for each item.
        input_tokens, output_tokens: per call.
        seconds: per call.
        measured: the folder of the run that it was measured in, or empty.
    """

    per_item: float = 1.0
    input_tokens: float = DEFAULT_TOKENS[0]
    output_tokens: float = DEFAULT_TOKENS[1]
    seconds: float = DEFAULT_SECONDS
    measured: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a plan: the calls of one role for so many items.

    Attributes:
        name: what is done.
        items: how many.
        rate: of its calls.
        price: of a token; None: unknown.
        concurrency: of its calls.
    """

    name: str
    items: float
    rate: Rate
    price: Price | None = None
    concurrency: int = 1

    @property
    def calls(self) -> float:
        """Number of calls."""
        return self.items * self.rate.per_item

    @property
    def minutes(self) -> float:
        """Minutes, if calls that are made at once do not slow each other down."""
        return self.calls * self.rate.seconds / max(1, self.concurrency) / 60

    @property
    def usd(self) -> float:
        """US dollars."""
        price_in, price_out = self.price or (0.0, 0.0)
        return self.calls * (self.rate.input_tokens * price_in + self.rate.output_tokens * price_out)


@dataclass(frozen=True, slots=True)
class Trainings:
    """The trainings of a plan.

    Attributes:
        minutes: of all, at most.
        expected: minutes that all are expected to take; None: that is unknown, and the most is expected.
        where: how they are run, where that is not on this machine.
        usd: what they cost, if all take so long; None: nothing is charged, or the price is unknown.
    """

    minutes: float = 0.0
    where: str = ""
    usd: float | None = None
    expected: float | None = None


def describe(steps: Sequence[Step], trainings: Trainings | None = None) -> str:
    """The plan as a paragraph: a total, then a line for each step.

    Args:
        steps: with calls.
        trainings: if weights are trained.
    """
    trainings = trainings or Trainings()
    steps = [step for step in steps if step.calls]
    priced = any(step.price not in (None, FREE) for step in steps) or trainings.usd is not None
    unknown = any(step.price is None for step in steps)
    training = trainings.minutes if trainings.expected is None else trainings.expected
    minutes = sum(step.minutes for step in steps) + training
    measured = next((step.rate.measured for step in steps if step.rate.measured), "")
    tokens = sum(step.calls * (step.rate.input_tokens + step.rate.output_tokens) for step in steps)
    basis = f"calls as in the run {measured}" if measured else "assumed rates, since no earlier run has measured any"
    usd = sum(step.usd for step in steps) + (trainings.usd or 0.0)
    money = f", ${usd:,.2f}" if priced else ", no price in the list" if unknown else ""
    lines = [
        f"plan: about {counted(round(sum(step.calls for step in steps)), 'call')}, {_short(tokens)} tokens, "
        f"{_minutes(minutes)}{money} ({basis})"
    ]
    for step in steps:
        each = f"{step.rate.input_tokens:,.0f} + {step.rate.output_tokens:,.0f} tokens each"
        cost = f", ${step.usd:,.2f}" if step.price not in (None, FREE) else ""
        lines.append(f"  {step.name}: {counted(round(step.calls), 'call')}, {each}{cost}")
    if trainings.minutes:
        cost = "" if trainings.usd is None else f", ${trainings.usd:,.2f}"
        where = f", {trainings.where}" if trainings.where else ""
        about = "" if trainings.expected is None else f"about {_minutes(trainings.expected)}, "
        lines.append(f"  training: {about}at most {_minutes(trainings.minutes)}{where}{cost}")
    return "\n".join(lines)


def measured_rate(run: Path, items: float | None = None, **where: str) -> Rate | None:
    """The mean of a run's calls of a kind.

    Args:
        run: its folder.
        items: what the calls were for; by default the items, or else the arms, that they are of, and for calls of
            neither, as in synthesis, one for each.
        where: values of the ledger's columns station, role and arm.

    Returns:
        None where the run has no such call, or its ledger cannot be read.
    """
    if not (run / LEDGER).is_file() or not set(where) <= {"station", "role", "arm"}:
        return None
    condition = " and ".join(f"{column} = ?" for column in where) or "1"
    sql = (
        "select count(*), count(distinct nullif(arm || char(10) || source, char(10))), avg(input_tokens), "
        f"avg(output_tokens), avg(latency_s) from calls where {condition}"
    )
    try:
        with closing(connect(run / LEDGER, read_only=True)) as db:
            calls, number, tokens_in, tokens_out, seconds = db.execute(sql, tuple(where.values())).fetchone()
    except (sqlite3.Error, SetupError):
        return None
    if not calls:
        return None
    number = number if items is None else items
    default = Rate()
    return Rate(
        calls / number if number else default.per_item,
        default.input_tokens if tokens_in is None else tokens_in,
        default.output_tokens if tokens_out is None else tokens_out,
        default.seconds if seconds is None else seconds,
        run.name,
    )


def former_rate(runs: Iterable[Path], items: Callable[[Path], float] | None = None, **where: str) -> Rate:
    """The rate of the first of these runs that has one, else the default; `items` counts what its calls were for."""
    rates = (measured_rate(run, None if items is None else items(run), **where) for run in runs)
    return next((rate for rate in rates if rate is not None), Rate())


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def _minutes(minutes: float) -> str:
    return (
        f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes / 60:.1f} h" if minutes > 120 else f"{minutes:.0f} min"
    )
