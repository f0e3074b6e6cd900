"""What a run has spent, by role: the teacher's, the judge's and the student's calls, and the trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from synth_dspy.core.budget import TRAINING
from synth_dspy.core.ledger import Ledger


class Spending(TypedDict):
    """Of one role: its answered calls in all starts of the run, the seconds that they or the trainings took.

    `cost_usd` is None where the price of a call is unknown, and for what runs on the user's own machine.
    """

    role: str
    calls: int
    input_tokens: int
    output_tokens: int
    seconds: float
    cost_usd: float | None


def spending_of(ledger: Ledger, training_s: float = 0.0) -> list[Spending]:
    """The spending of a ledger's run, by role, and of its trainings if there were any; training jobs have a cost.

    Args:
        ledger: of the run.
        training_s: seconds that its trainings took.
    """
    spent: list[Spending] = [
        {
            "role": row["role"],
            "calls": row["calls"],
            "input_tokens": row["input_tokens"],
            "output_tokens": row["output_tokens"],
            "seconds": row["latency_s"],
            "cost_usd": row["cost_usd"],
        }
        for row in ledger.totals("role")
        if row["calls"]
    ]
    jobs = next((each for each in spent if each["role"] == TRAINING), None)
    if training_s or jobs:
        trainings: Spending = {
            "role": TRAINING,
            "calls": 0,
            "input_tokens": 0,
            "output_tokens": 0,
            "seconds": training_s or (jobs["seconds"] if jobs else 0.0),
            "cost_usd": jobs["cost_usd"] if jobs else None,
        }
        spent = [*(each for each in spent if each is not jobs), trainings]
    return spent


def spending_lines(spent: Sequence[Spending]) -> list[str]:
    """One line for each role."""
    lines = []
    for each in spent:
        cost = "" if each["cost_usd"] is None else f", ${each['cost_usd']:.4f}"
        what = f"{each['seconds']:,.0f} s"
        if each["role"] != TRAINING:
            what = f"{each['calls']:,} calls, {each['input_tokens']:,} + {each['output_tokens']:,} tokens"
        lines.append(f"{each['role']}: {what}{cost}")
    return lines
