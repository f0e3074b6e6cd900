"""People's feedback on answers: a file of preferences and rated answers, turned into rows with the program's prompts.

    {"question": "When does the lease end?", "document": "office_lease",
     "chosen": "31 March 2027", "rejected": "The lease does not end."}
    {"question": "What is the rent?", "document": "office_lease", "answer": "EUR 2,000", "good": true}

Each line holds the program's inputs, and either a chosen and a rejected answer (DPO and ORPO learn from these) or one
answer that is good or bad (KTO learns from all of these, SFT from the good ones). Further fields are ignored, except
`id`, which names the line; `source`, which is "ai" if a model gave the feedback; and `feedback`, the ids of the records
that the line was made of (`feedback_records`, where an input is called `feedback`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import dspy
from dspy.adapters.utils import parse_value

from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.io.jsonl import BOOL, FILLED, ID, Check, placed_rows
from synth_dspy.core.s3.reading import local
from synth_dspy.core.text import as_text
from synth_dspy.synthesis.text import tokens
from synth_dspy.training.rows import Rows, assistant_message, is_same_text, row_of
from synth_dspy.training.traces import PredictorCall, collect

SIDES = ("chosen", "rejected")
RATED = ("answer", "good")
RECORDS = ("feedback", "feedback_records")
"""Names of the list of records' ids: the second where an input has the first."""
NAMES = ("id", "source", *RECORDS)
Kind = Literal["pairs", "rated", "good"]
"""Which feedback a method learns from: preferences, good and bad answers, or good answers only."""
BY_METHOD: Mapping[str, Kind] = {"sft": "good", "dpo": "pairs", "orpo": "pairs", "kto": "rated"}

UNASKED = "could not be asked"
NOT_THE_REPLY = "the answer is not the program's last reply"
_ORIGIN = {"ai": "ai"}


def read_feedback(
    path: Path, inputs: Collection[str], held_out: Collection[str] = (), checks: Mapping[str, Check] | None = None
) -> tuple[list[dspy.Example], int]:
    """Read a file of feedback.

    Args:
        path: JSON lines, as above.
        inputs: names of the program's inputs.
        held_out: held-out groups (documents); lines that name one are left out.
        checks: of inputs, in place of "a text that is not empty".

    Returns:
        An example for each line that is used, and the number of lines left out.

    Raises:
        SetupError: the file cannot be read, or a line lacks a field; names the line and the field.
    """
    fields = dict.fromkeys(inputs, FILLED) | dict(checks or {})
    # An input may be called like a field of ours; then it is the input.
    optional = {"chosen": FILLED, "rejected": FILLED, "answer": FILLED, "good": BOOL, "id": ID}
    optional = {name: check for name, check in optional.items() if name not in fields}
    examples, left_out = [], 0
    for place, line in placed_rows(local(path), fields, optional=optional):
        if line.get("good") is not None and "answer" in fields:
            raise SetupError(f"{place}: the program has an input 'answer', so a rated answer cannot be told from it.")
        sides = _sides(line, place)
        if any(isinstance(line[name], str) and line[name] in held_out for name in inputs):
            left_out += 1
            continue
        names = [name for name in NAMES if line.get(name) is not None and name not in fields]
        values = {name: line[name] for name in (*inputs, *sides, *names)}
        examples.append(dspy.Example(**values).with_inputs(*inputs))
    return examples, left_out


def read_questions(
    path: Path, inputs: Collection[str], held_out: Collection[str] = (), checks: Mapping[str, Check] | None = None
) -> tuple[list[dspy.Example], int]:
    """Read a file of questions without references: JSON lines with the program's inputs, and perhaps an `id`.

    Args:
        path: the file.
        inputs: names of the program's inputs.
        held_out: held-out groups (documents); lines that name one are left out.
        checks: of inputs, in place of "a text that is not empty".

    Returns:
        An example for each line that is used, with `unanswered` set, and the number of lines left out.

    Raises:
        SetupError: the file cannot be read, or a line lacks an input; names the line and the field.
    """
    fields = dict.fromkeys(inputs, FILLED) | dict(checks or {})
    optional = {} if "id" in fields else {"id": ID}
    examples, left_out = [], 0
    for number, (_, line) in enumerate(placed_rows(local(path), fields, optional=optional), start=1):
        if any(isinstance(line[name], str) and line[name] in held_out for name in inputs):
            left_out += 1
            continue
        values = {name: line[name] for name in inputs}
        # An id of its own: a training question may have the same.
        values = {"id": f"question-{line.get('id') or number}", "unanswered": True, **values}
        examples.append(dspy.Example(**values).with_inputs(*inputs))
    return examples, left_out


def _sides(line: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """The names of a line's answers: of a preference, or of a rated answer."""
    paired, rated = ([name for name in names if line.get(name) is not None] for names in (SIDES, RATED))
    if paired and rated and len(paired) == len(SIDES) and len(rated) < len(RATED):
        rated = []  # a field `answer` of a preference is ignored, as all further ones are
    if len(paired) == len(SIDES) and not rated:
        return SIDES
    if len(rated) == len(RATED) and not paired:
        return RATED
    if paired and len(rated) == len(RATED):
        raise SetupError(f"{place}: has both a preference and a rated answer; write them as two lines.")
    missing = next(name for name in (RATED if rated and not paired else SIDES) if line.get(name) is None)
    raise SetupError(
        f"{place}: field {missing!r} is missing; give chosen and rejected (two answers), or answer and good (one)."
    )


def human_rows(feedback: Sequence[dspy.Example], program: dspy.Module, executor: Executor, kind: Kind) -> Rows:
    """Make rows of feedback.

    Only the program's last reply is learned, and only where the program makes the answer of it: of the other replies
    the feedback says nothing.

    Args:
        feedback: see `read_feedback`.
        program: renders the prompts.
        executor: runs the program over the examples.
        kind: which feedback is used.
    """
    used = {
        "pairs": [example for example in feedback if "chosen" in example],
        "rated": [example for example in feedback if "good" in example],
        "good": [example for example in feedback if example.get("good") is True],
    }[kind]
    if not used:
        return Rows(())
    dropped: Counter[str] = Counter()
    if len(list(program.predictors())[-1].signature.output_fields) != 1:
        return Rows((), Counter({"the program's reply has more fields than the answer": len(used)}))
    replies = {side: _replies(program, used, side, executor) for side in (SIDES if kind == "pairs" else RATED[:1])}
    rows: list[dict[str, Any]] = []
    for number, example in enumerate(used, start=1):
        calls = [side[number - 1] for side in replies.values()]
        if reasons := [call for call in calls if isinstance(call, str)]:
            dropped[reasons[0]] += 1
            continue
        call, *others = (call for call in calls if isinstance(call, PredictorCall))
        name, origin = str(example.get("id") or f"human-{number}"), _ORIGIN.get(str(example.get("source")), "human")
        if kind == "pairs" and is_same_text(call.reply, others[0].reply):
            dropped["equal"] += 1
        elif kind == "pairs":
            chosen, rejected = assistant_message(call.reply), assistant_message(others[0].reply)
            rows.append(row_of(call, name, name, origin, chosen=chosen, rejected=rejected, margin=1.0))
        else:
            label = {"label": example.good} if kind == "rated" else {}
            rows.append(row_of(call, name, name, origin, completion=assistant_message(call.reply), **label))
    return Rows(tuple(rows), dropped)


def _replies(
    program: dspy.Module, feedback: Sequence[dspy.Example], side: str, executor: Executor
) -> list[PredictorCall | str]:
    """The last call of each example with that side as its reply, or why there is none."""
    ((output, field),) = list(program.predictors())[-1].signature.output_fields.items()
    examples: list[dspy.Example | None] = []
    for example in feedback:
        try:  # answers are texts, and the reply that is served has the field's type
            value = example[side] if field.annotation is str else parse_value(example[side], field.annotation)
            inputs = example.inputs().toDict()
            examples.append(dspy.Example(**inputs, **{output: value}).with_inputs(*inputs))
        except Exception:  # of the user's own type, too
            examples.append(None)
    asked = [example for example in examples if example is not None]
    if not asked:
        return [UNASKED] * len(examples)

    def is_answer(example: Any, prediction: Any, trace: Any = None) -> float:
        answer = prediction.get("answer") if "answer" in prediction else prediction.get(output)
        return float(tokens(as_text(answer)) == tokens(as_text(example[output])))

    traces = iter(collect(program, asked, executor=executor, score=is_answer))
    attempts = [None if example is None else next(traces).reference for example in examples]
    return [
        UNASKED if attempt is None or not attempt.calls else attempt.calls[-1] if attempt.score else NOT_THE_REPLY
        for attempt in attempts
    ]
