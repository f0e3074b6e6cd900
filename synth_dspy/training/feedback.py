"""Preferences that people gave: a file of better and worse answers, rendered as the program would ask.

    {"question": "When does the lease end?", "document": "office_lease",
     "chosen": "31 March 2027", "rejected": "The lease does not end."}

Each line holds the program's inputs, the better answer and the worse one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy

from synth_dspy.errors import ArmError, SetupError
from synth_dspy.executor import Executor
from synth_dspy.jsonl import TEXT, read_rows
from synth_dspy.training.traces import collect

SIDES = ("chosen", "rejected")


def human_rows(path: Path, program: dspy.Module, executor: Executor) -> list[dict[str, Any]]:
    """Preference rows of a feedback file.

    Args:
        path: JSON lines, as above; further fields are the program's other inputs.
        program: renders the prompts; its last predictor has one output field.
        executor: runs many at once.

    Raises:
        SetupError: the file cannot be read, or a line lacks a side; names the line and the field.
    """
    lines = read_rows(path, dict.fromkeys(SIDES, TEXT))
    fields = list(list(program.predictors())[-1].signature.output_fields)
    if len(fields) != 1:
        raise ArmError(f"Feedback is about programs whose answer is one field; this one has {', '.join(fields)}.")
    rows = []
    examples = {side: [_example(line, fields[0], line[side]) for line in lines] for side in SIDES}
    traced = {
        side: collect(program, found, executor=executor, score=lambda example, prediction, trace=None: 1.0)
        for side, found in examples.items()
    }
    for number, (good, bad) in enumerate(zip(traced["chosen"], traced["rejected"], strict=True), start=1):
        if good.reference is None or bad.reference is None or not good.reference.calls:
            raise SetupError(
                f"Line {number} of {path} cannot be asked of the program: beside chosen and rejected it needs the "
                "program's inputs."
            )
        better, worse = good.reference.calls[-1], bad.reference.calls[-1]
        rows.append(
            {
                "id": f"human-{number}",
                "source": f"human-{number}",
                "predictor": better.predictor,
                "origin": "human",
                "prompt": [dict(message) for message in better.messages],
                "chosen": [{"role": "assistant", "content": better.reply}],
                "rejected": [{"role": "assistant", "content": worse.reply}],
                "margin": 1.0,
            }
        )
    return rows


def _example(line: dict[str, Any], output: str, answer: str) -> dspy.Example:
    inputs = {key: value for key, value in line.items() if key not in SIDES}
    return dspy.Example(**inputs, **{output: answer}).with_inputs(*inputs)
