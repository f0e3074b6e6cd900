"""Labelled rows as a task's source: a file of JSON lines or CSV, or examples in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import Check, read_table
from synth_dspy.core.knowledge import Item, Knowledge
from synth_dspy.core.splits import hash_order
from synth_dspy.core.text import as_text
from synth_dspy.evaluation.answers import LABEL, AnswerType
from synth_dspy.evaluation.metrics import normalize_answer

GROUP, ID = "group", "id"
RESERVED = (ID, GROUP, "references", "origin")
"""Columns that the engine uses: a program's input cannot have these names."""
FEW = 4
"""Least number of groups with a label to stratify by it; rarer labels are split together."""


def _missing(value: Any) -> str | None:
    return "fill it in" if value is None else None


def _if_given(output: AnswerType) -> Check:
    return lambda value: None if value in (None, "") else output.problem_with(value)


@dataclass(frozen=True)
class Rows:
    """Labelled rows of a file: the program's inputs and its answer, in columns of these names.

    A column `group` keeps related rows (of one customer, of one document) in the same split; a column `id` names rows
    in reports. Other columns are kept.

    Attributes:
        path: a file of JSON lines (`.jsonl`), or a table with a header (`.csv`, `.tsv`).
        answer: the program's answer, which `synth_dspy` fills in from the program.
        abstain: its words for "there is no answer", likewise.
    """

    path: Path
    answer: AnswerType | None = None
    abstain: str = ""

    def about(self, answer: AnswerType, abstain: str) -> Rows:
        """The same rows, read for a program with this answer."""
        return replace(self, answer=answer, abstain=abstain)

    def read(self, limit: int | None = None) -> Knowledge:
        """Read the rows; `limit` takes that many groups, in the order of their names' hashes.

        Raises:
            SetupError: the file cannot be read, a column is missing, or an answer is not of the program's type; names
                the line and the column.
        """
        assert self.answer is not None, "a source of rows is completed with the program's answer"
        answer = self.answer
        checks = dict.fromkeys(answer.inputs, _missing) | {answer.name: answer.problem_with}
        others = [other for other in answer.others() if other.name not in answer.inputs]
        optional = {other.name: _if_given(other) for other in others}
        rows = read_table(Path(self.path).expanduser(), checks, optional=optional)
        typed = [{**row, answer.name: answer.read(row.get(answer.name) or None)} for row in rows]
        for row in typed:
            row |= {
                other.name: other.read(row[other.name]) for other in others if row.get(other.name) not in (None, "")
            }
        return _knowledge(typed, limit, answer, self.abstain, f"{self.path}")

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled rows of another file, to score programs on."""
        return list(replace(self, path=path).read(limit).labelled)


@dataclass(frozen=True)
class Examples:
    """Labelled examples in memory, as `compile_task(trainset=...)` is given them.

    Attributes:
        trainset: DSPy examples or mappings with the program's inputs and its answer.
        answer: the program's answer, which `synth_dspy` fills in from the program.
        abstain: its words for "there is no answer", likewise.
        answered: whether each must have an answer of its type; a metric of one's own may need none.
    """

    trainset: Sequence[Any]
    answer: AnswerType | None = None
    abstain: str = ""
    answered: bool = True

    def about(self, answer: AnswerType, abstain: str) -> Examples:
        """The same examples, read for a program with this answer."""
        return replace(self, answer=answer, abstain=abstain)

    def read(self, limit: int | None = None) -> Knowledge:
        """The examples as knowledge.

        Raises:
            SetupError: an example lacks an input, or its answer is not of the program's type; names its number.
        """
        assert self.answer is not None, "a source of examples is completed with the program's answer"
        answer, rows = self.answer, []
        if self.trainset:  # the examples' own inputs override those inferred from the program's code
            answer = replace(answer, inputs=_inputs_of(self.trainset[0]) or answer.inputs)
        if answer.accepted and (strange := [name for name in answer.inputs if name not in answer.accepted]):
            takes = ", ".join(answer.accepted)
            raise SetupError(f"The trainset's input {strange[0]!r} is not one of the program's: {takes}.")
        for number, example in enumerate(self.trainset, start=1):
            row = dict(example.items())
            if missing := [name for name in answer.inputs if name not in row]:
                needed = ", ".join(answer.inputs)
                raise SetupError(f"Row {number} of the trainset lacks {missing[0]!r}; the program needs {needed}.")
            problem = answer.problem_with(row.get(answer.name)) if self.answered else None
            if problem is not None:
                shown = repr(row.get(answer.name))[:60]
                raise SetupError(f"Row {number} of the trainset: {answer.name!r} is {shown}; {problem}.")
            rows.append(row)
        return _knowledge(rows, limit, answer, self.abstain, "the trainset")


def _knowledge(
    rows: Sequence[Mapping[str, Any]], limit: int | None, answer: AnswerType, abstain: str, what: str
) -> Knowledge:
    if reserved := [name for name in answer.inputs if name in RESERVED]:
        raise SetupError(
            f"An input of the program is called {reserved[0]!r}, which is a column of the engine: rename it."
        )
    examples, names = [], Counter[str]()
    for row in rows:
        named = str(row[ID]) if row.get(ID) is not None else f"row-{_digest(row, answer.inputs)}"
        names[named] += 1
        if names[named] > 1 and row.get(ID) is not None:
            raise SetupError(f"In {what} two rows have the id {named!r}: give each its own, or none.")
        unique = named if names[named] == 1 else f"{named}-{names[named]}"
        examples.append(_labelled(row, answer, abstain, unique))
    groups = list(dict.fromkeys(example.group for example in examples))
    if limit is not None:
        groups = sorted(groups, key=hash_order)[:limit]
    kept = [example for example in examples if example.group in set(groups)]
    return Knowledge(
        items=[Item(id=example.id, group=example.group, text=example.question) for example in kept],
        labelled=kept,
        strata=_strata(kept) if answer.kind == LABEL else {},
    )


def _labelled(row: Mapping[str, Any], answer: AnswerType, abstain: str, named: str) -> dspy.Example:
    """A row as the engine's labelled example: its own columns, and those that reports and splits need."""
    value = row.get(answer.name)
    text = as_text(value).strip() if value is not None or answer.may_be_none else ""
    silent = bool(abstain) and normalize_answer(text) == normalize_answer(abstain)
    own = {
        ID: named,
        GROUP: str(row[GROUP]) if row.get(GROUP) is not None else named,
        "question": _inputs_text(row, answer.inputs),
        "references": [text] if text and not silent else [],
        "category": text if answer.kind == LABEL else str(row.get("category") or ""),
        "answer_type": answer.kind,
        "origin": "gold",
    }
    fields = {**row, **{name: value for name, value in own.items() if name not in (*answer.inputs, answer.name)}}
    fields.setdefault("answer", text)
    return dspy.Example(**fields).with_inputs(*answer.inputs)


def _strata(examples: Sequence[dspy.Example]) -> dict[str, str]:
    """By group, the label that splits get their share of; "" for labels that few groups have."""
    labels: dict[str, str] = {}
    for example in examples:
        labels.setdefault(example.group, example.references[0] if example.references else "")
    sizes = Counter(labels.values())
    return {group: label if sizes[label] >= FEW else "" for group, label in labels.items()}


def _digest(row: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """A row's name by its inputs, whatever its position."""
    return hash_order(as_text({name: row.get(name) for name in inputs}))[:12]


def _inputs_of(example: Any) -> tuple[str, ...]:
    try:
        return tuple(example.inputs().keys()) if isinstance(example, dspy.Example) else ()
    except ValueError:  # with_inputs was not called
        return ()


def _inputs_text(row: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """The inputs as one text; several have their names."""
    if len(inputs) == 1:
        return str(row[inputs[0]])
    return "\n".join(f"{name}: {row.get(name)}" for name in inputs)
