"""Human preferences: a file of chosen and rejected answers, turned into rows with the program's own prompts.

    {"question": "When does the lease end?", "document": "office_lease",
     "chosen": "31 March 2027", "rejected": "The lease does not end."}

Each line holds the program's inputs, the chosen and the rejected answer; further fields are ignored.
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
from synth_dspy.training.rows import Rows, assistant_message, is_same_text, row_of
from synth_dspy.training.traces import collect

SIDES = ("chosen", "rejected")


def read_feedback(
    path: Path, inputs: Collection[str], held_out: Collection[str] = (), checks: Mapping[str, Check] | None = None
) -> tuple[list[dspy.Example], int]:
    """Read a file of preferences.

    Args:
        path: JSON lines, as above.
        inputs: names of the program's inputs.
        held_out: held-out groups (documents); lines that name one are left out.
        checks: further checks of inputs.

    Returns:
        An example for each line that is used, and the number of lines left out.

    Raises:
        SetupError: the file cannot be read, or a line lacks a field; names the line and the field.
    """
    lines = read_rows(path, dict.fromkeys((*inputs, *SIDES), FILLED) | dict(checks or {}))
    used = [line for line in lines if not any(line[name] in held_out for name in inputs)]
    names = (*inputs, *SIDES)
    return [dspy.Example(**{name: line[name] for name in names}) for line in used], len(lines) - len(used)


def human_rows(feedback: Sequence[dspy.Example], program: dspy.Module, executor: Executor) -> Rows:
    """Make preference rows of feedback.

    Args:
        feedback: see `read_feedback`.
        program: renders the prompts; its last predictor must have one output field.
        executor: runs the program over the examples.
    """
    fields = list(list(program.predictors())[-1].signature.output_fields)
    if len(fields) != 1:
        raise ArmError(f"Feedback needs a program whose answer is one field; this one has {', '.join(fields)}.")
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
        if is_same_text(better.reply, worse.reply):
            dropped["equal"] += 1
            continue
        chosen, rejected = assistant_message(better.reply), assistant_message(worse.reply)
        name = f"human-{number}"
        rows.append(row_of(better, name, name, "human", chosen=chosen, rejected=rejected, margin=1.0))
    return Rows(tuple(rows), dropped)


def _answered(example: dspy.Example, output: str, side: str) -> dspy.Example:
    inputs = {name: value for name, value in example.toDict().items() if name not in SIDES}
    return dspy.Example(**inputs, **{output: example[side]}).with_inputs(*inputs)
