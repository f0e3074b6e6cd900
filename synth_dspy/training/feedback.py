"""Preferences that people gave: a file of better and worse answers, rendered as the program would ask.

    {"question": "When does the lease end?", "document": "office_lease",
     "chosen": "31 March 2027", "rejected": "The lease does not end."}

Each line holds the program's inputs, the better answer and the worse one; further fields are passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import ArmError
from synth_dspy.core.executor import Executor
from synth_dspy.core.io.jsonl import FILLED, Check, read_rows
from synth_dspy.training.rows import Rows, row_of, said, same
from synth_dspy.training.traces import collect

SIDES = ("chosen", "rejected")


def read_feedback(
    path: Path, inputs: Collection[str], held_out: Collection[str] = (), checks: Mapping[str, Check] | None = None
) -> tuple[list[dspy.Example], int]:
    """The preferences of a file.

    Args:
        path: JSON lines, as above.
        inputs: the program's inputs.
        held_out: groups (documents) that nothing may be learned about; lines that name one are left out.
        checks: of inputs that must be more than filled in.

    Returns:
        An example for each line that is used, and how many were left out.

    Raises:
        SetupError: the file cannot be read, or a line lacks a side or an input; names the line and the field.
    """
    lines = read_rows(path, dict.fromkeys((*inputs, *SIDES), FILLED) | dict(checks or {}))
    used = [line for line in lines if not any(line[name] in held_out for name in inputs)]
    names = (*inputs, *SIDES)
    return [dspy.Example(**{name: line[name] for name in names}) for line in used], len(lines) - len(used)


def human_rows(feedback: Sequence[dspy.Example], program: dspy.Module, executor: Executor) -> Rows:
    """Preference rows of feedback.

    Args:
        feedback: see `read_feedback`.
        program: renders the prompts; its last predictor has one output field.
        executor: runs many at once.
    """
    fields = list(list(program.predictors())[-1].signature.output_fields)
    if len(fields) != 1:
        raise ArmError(f"Feedback is about programs whose answer is one field; this one has {', '.join(fields)}.")
    sides = {
        side: collect(
            program,
            [_answered(example, fields[0], side) for example in feedback],
            executor=executor,
            score=lambda example, prediction, trace=None: 1.0,
        )
        for side in SIDES
    }
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for number, (good, bad) in enumerate(zip(sides["chosen"], sides["rejected"], strict=True), start=1):
        if good.reference is None or bad.reference is None or not good.reference.calls:
            dropped["could not be asked"] += 1
            continue
        better, worse = good.reference.calls[-1], bad.reference.calls[-1]
        if same(better.reply, worse.reply):
            dropped["equal"] += 1
            continue
        name, given = f"human-{number}", {"chosen": said(better.reply), "rejected": said(worse.reply)}
        rows.append(row_of(better, name, name, "human", **given, margin=1.0))
    return Rows(tuple(rows), dropped)


def _answered(example: dspy.Example, output: str, side: str) -> dspy.Example:
    inputs = {name: value for name, value in example.toDict().items() if name not in SIDES}
    return dspy.Example(**inputs, **{output: example[side]}).with_inputs(*inputs)
