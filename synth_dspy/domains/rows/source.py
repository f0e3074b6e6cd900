"""Labelled rows as a task's source: a file of JSON lines or CSV, or examples that are in memory already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import read_table
from synth_dspy.core.knowledge import Item, Knowledge
from synth_dspy.core.splits import hash_order
from synth_dspy.evaluation.answers import LABEL, AnswerType, as_text

GROUP, ID = "group", "id"


def _missing(value: Any) -> str | None:
    return "fill it in" if value is None or not str(value).strip() else None


@dataclass(frozen=True)
class Rows:
    """Labelled rows of a file: the program's inputs and its answer, in columns of these names.

    A column `group` keeps rows together that belong together (one customer's, one document's), so that nothing is
    learned from some and scored on others; a column `id` names them in reports. Other columns are left alone.

    Attributes:
        path: a file of JSON lines (`.jsonl`) or CSV with a header (`.csv`).
        answer: the program's answer, which `synth_dspy` fills in from the program.
    """

    path: Path
    answer: AnswerType | None = None

    def about(self, answer: AnswerType) -> Rows:
        """The same rows, read for a program with this answer."""
        return replace(self, answer=answer)

    def read(self, limit: int | None = None) -> Knowledge:
        """Read the rows; `limit` takes that many groups in an order that their names' hashes give.

        Raises:
            SetupError: the file cannot be read, a column is missing, or an answer is not of the program's type; names
                the line and the column.
        """
        assert self.answer is not None, "a source of rows is completed with the program's answer"
        return _knowledge(self._examples(self.answer), limit, self.answer)

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled rows of another file, to score programs on."""
        return list(replace(self, path=path).read(limit).labelled)

    def _examples(self, answer: AnswerType) -> list[dspy.Example]:
        checks = dict.fromkeys(answer.inputs, _missing) | {answer.name: answer.problem_with}
        rows = read_table(self.path, checks)
        return [
            labelled({**row, answer.name: answer.read(row[answer.name])}, answer, number=number)
            for number, row in enumerate(rows)
        ]


@dataclass(frozen=True)
class Examples:
    """Labelled examples in memory, as `compile_task(trainset=...)` is given them.

    Attributes:
        trainset: DSPy examples or mappings with the program's inputs and, where the metric compares with one, its
            answer.
        answer: the program's answer, which `synth_dspy` fills in from the program.
    """

    trainset: Sequence[Any]
    answer: AnswerType | None = None

    def about(self, answer: AnswerType) -> Examples:
        """The same examples, read for a program with this answer."""
        return replace(self, answer=answer)

    def read(self, limit: int | None = None) -> Knowledge:
        """The examples as knowledge.

        Raises:
            SetupError: an example lacks an input; names its number.
        """
        assert self.answer is not None, "a source of examples is completed with the program's answer"
        examples = []
        for number, given in enumerate(self.trainset):
            row = dict(given.toDict() if isinstance(given, dspy.Example) else given)
            inputs = _inputs_of(given) or self.answer.inputs
            for name in inputs:
                if name not in row:
                    raise SetupError(
                        f"Row {number + 1} of the trainset lacks {name!r}; the program needs {_list(inputs)}."
                    )
            examples.append(labelled(row, replace(self.answer, inputs=tuple(inputs)), number=number))
        return _knowledge(examples, limit, self.answer)


def labelled(row: Mapping[str, Any], answer: AnswerType, *, number: int) -> dspy.Example:
    """A row as the engine's labelled example: its own columns, and those that reports and splits need."""
    value = row.get(answer.name)
    text = "" if value is None else as_text(value)
    named = str(row.get(ID) or f"row-{number + 1}")
    fields = {
        **row,
        ID: named,
        GROUP: str(row.get(GROUP) or named),
        "question": _in_words(row, answer.inputs),
        "references": [text] if text else [],
        "category": text if answer.kind == LABEL else str(row.get("category") or ""),
        "answer_type": answer.kind,
        "origin": "gold",
    }
    fields.setdefault("answer", text)
    return dspy.Example(**fields).with_inputs(*answer.inputs)


def _knowledge(examples: Sequence[dspy.Example], limit: int | None, answer: AnswerType) -> Knowledge:
    groups = list(dict.fromkeys(example.group for example in examples))
    if limit is not None:
        groups = sorted(groups, key=hash_order)[:limit]
    kept = [example for example in examples if example.group in set(groups)]
    strata: dict[str, str] = {}
    if answer.kind == LABEL:
        for example in kept:
            strata.setdefault(example.group, example.category)
    return Knowledge(
        items=[Item(id=example.id, group=example.group, text=example.question) for example in kept],
        labelled=kept,
        strata=strata,
    )


def _inputs_of(given: Any) -> tuple[str, ...]:
    try:
        return tuple(given.inputs().keys()) if isinstance(given, dspy.Example) else ()
    except ValueError:  # with_inputs was not called
        return ()


def _in_words(row: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """The inputs as one text: a single one as it is, several with their names."""
    if len(inputs) == 1:
        return str(row[inputs[0]])
    return "\n".join(f"{name}: {row.get(name)}" for name in inputs)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
