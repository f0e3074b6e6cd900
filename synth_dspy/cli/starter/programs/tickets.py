"""Support tickets to teams: a task is a DSPy program and where its knowledge comes from.

python -m synth_dspy.compile tickets --quick
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import dspy

from synth_dspy import Rows, Task, task


class Triage(dspy.Signature):
    """Say which team answers the ticket."""

    text: str = dspy.InputField()
    team: Literal["billing", "card", "login", "transfer", "loan", "other"] = dspy.OutputField()


@task
def tickets(rows: Path = Path("data/tickets.jsonl")) -> Task:
    """Support tickets to teams.

    Args:
        rows: labelled rows, JSON lines or CSV, with the columns text and team.
    """
    return Task(program=dspy.Predict(Triage), source=Rows(rows))
