"""What a rehearsal with models takes place in: a task's labelled questions, dealt to those who label, ask and check.

A world is a copy of the task's knowledge, as it stands at each stage of the rehearsal. At the beginning, questions of
some kinds are labelled. Then what is right changes (`AMENDED`); then people ask questions of further kinds (`ASKED`),
which are labelled once somebody noticed (`LABELLED`). Questions that people ask, and held-out ones that only the
rehearsal's figures are about, are never labelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import dspy

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.knowledge import Document
from synth_dspy.core.run import jsonl_text
from synth_dspy.core.splits import hash_order
from synth_dspy.core.task import CompleteTask
from synth_dspy.domains.rows.source import Rows
from synth_dspy.evaluation.answers import LABEL
from synth_dspy.loop.rehearsal.amend import amend, numbers

LAUNCHED, AMENDED, ASKED, LABELLED = range(4)
"""Stages."""
Part = Literal["labelled", "asked", "held_out"]
SHARES: tuple[tuple[Part, float], ...] = (("labelled", 0.55), ("asked", 0.25), ("held_out", 0.2))
_FEWEST = 40
"""Labelled questions without which nothing could be shown."""
_DOCUMENTS, _LABELS = "documents", "labelled.jsonl"

Row = dict[str, Any]


class World(Protocol):
    """A task's knowledge in a rehearsal."""

    kinds: frozenset[str]
    """Kinds of questions at the beginning."""
    later: frozenset[str]
    """Kinds that are asked later."""

    def write(self, stage: int) -> None:
        """Put the files of a stage in their place; the same again changes nothing."""
        ...

    def rows(self, part: Part, stage: int) -> list[Row]:
        """The labelled rows of a part, as a stage has them, in the form of the task's source."""
        ...

    def is_new(self, row: Row) -> bool:
        """Whether a row is of a kind that is asked later."""
        ...

    def configured(self, config: CompileConfig) -> CompileConfig:
        """The task's settings with the files of this world."""
        ...


@dataclass
class _Dealt:
    """Rows with their kinds, dealt to those who label, ask, and check, evenly in each kind."""

    kinds: frozenset[str]
    later: frozenset[str]
    parts: Mapping[Part, Sequence[Row]]
    new: frozenset[str]
    """Ids of the rows of later kinds."""

    def at(self, part: Part, stage: int) -> list[Row]:
        further = stage >= (LABELLED if part == "labelled" else ASKED)
        return [row for row in self.parts[part] if further or str(row["id"]) not in self.new]


def make_world(task: CompleteTask, config: CompileConfig, folder: Path, seed: int = 0) -> World:
    """The world of a task: of documents with labelled questions, or of rows with a label.

    Args:
        task: its declaration.
        config: its settings.
        folder: for the world's files.
        seed: of the dealing.

    Raises:
        SetupError: the task is of neither kind, or has too few labelled questions.
    """
    knowledge = task.source.read(config.limit)
    labelled = list(knowledge.labelled)
    if len(labelled) < _FEWEST:
        raise SetupError(
            f"A rehearsal with models replays labelled questions, at least {_FEWEST}, and the task has {len(labelled)}."
        )
    settings = dict(getattr(config, "task", None) or ())
    if knowledge.documents and {"documents", "labelled"} <= settings.keys():
        return DocumentWorld(labelled, list(knowledge.documents), folder, seed)
    if isinstance(task.source, Rows) and task.source.answer is not None and task.source.answer.kind == LABEL:
        path = Path(task.source.path)
        names = [name for name, value in settings.items() if isinstance(value, Path) and value == path]
        if names:
            return RowWorld(labelled, task.source.answer, names[0], folder, seed)
    raise SetupError(
        "A rehearsal with models amends what a task knows: the task needs the settings `documents` and `labelled`, as "
        "contract_qa has them, or labelled rows of a file that a setting names, with a label as the answer."
    )


class DocumentWorld:
    """Documents, and labelled questions about them; amended ones have other numbers in them.

    Args:
        labelled: all labelled questions.
        documents: as they are.
        folder: for the copies.
        seed: of the dealing.
    """

    def __init__(
        self, labelled: Sequence[dspy.Example], documents: Sequence[Document], folder: Path, seed: int
    ) -> None:
        self.folder, self._documents = folder, documents
        names = ("id", "question", "document", "references", "spans", "category", "answer_type")
        rows = [{name: example.get(name) for name in names} for example in labelled]
        rows = [row for row in rows if row["document"] is not None]
        kind = "answer_type" if len({row["answer_type"] for row in rows}) > 1 else "category"
        has_number = defaultdict[str, list[bool]](list)
        for row in rows:
            has_number[str(row[kind])].append(bool(numbers(row["references"])))
        amendable = {name for name, each in has_number.items() if sum(each) > len(each) / 2}
        self._dealt = _deal(rows, lambda row: str(row[kind]), amendable, seed)
        self.kinds, self.later = self._dealt.kinds, self._dealt.later
        chosen = sorted((document.id for document in documents), key=lambda name: hash_order(name, seed))
        self.amended = frozenset(chosen[: (len(chosen) + 1) // 2])
        self._numbers = {
            name: numbers(text for row in rows if row["document"] == name for text in row["references"])
            for name in self.amended
        }

    def write(self, stage: int) -> None:
        """See `World`."""
        place = self.folder / _DOCUMENTS
        place.mkdir(parents=True, exist_ok=True)
        for document in self._documents:
            write_whole(place / f"{document.id}.txt", self._text(document.id, document.text, stage))
        write_whole(self.folder / _LABELS, jsonl_text(self.rows("labelled", stage)))

    def rows(self, part: Part, stage: int) -> list[Row]:
        """See `World`."""
        return [self._row(row, stage) for row in self._dealt.at(part, stage)]

    def is_new(self, row: Row) -> bool:
        """See `World`."""
        return str(row["id"]) in self._dealt.new

    def configured(self, config: CompileConfig) -> CompileConfig:
        """See `World`."""
        update = dict.fromkeys(("cuad",)) | {"documents": self.folder / _DOCUMENTS, "labelled": self.folder / _LABELS}
        task: Any = getattr(config, "task")  # noqa: B009 - only settings of a task have it
        given = {name: value for name, value in update.items() if name in type(task).model_fields}
        return config.model_copy(update={"task": task.model_copy(update=given)})

    def _row(self, row: Row, stage: int) -> Row:
        name = row["document"]
        spans = [self._text(name, text, stage) for text in row["spans"] or ()]
        return {
            **row,
            "question": self._text(name, row["question"], stage),
            "references": [self._text(name, text, stage) for text in row["references"]],
            "spans": spans,
        }

    def _text(self, document: str, text: str, stage: int) -> str:
        return amend(text, self._numbers[document]) if stage >= AMENDED and document in self.amended else text


@dataclass
class RowWorld:
    """Labelled rows; amended, half of the kinds change their labels with each other.

    Args:
        labelled: all labelled rows.
        answer: the program's.
        setting: the task's setting that names the file.
        folder: for the file.
        seed: of the dealing.
    """

    labelled: Sequence[dspy.Example]
    answer: Any
    setting: str
    folder: Path
    seed: int
    kinds: frozenset[str] = field(init=False)
    later: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        name = self.answer.name
        rows = [
            {key: row[key] for key in (*self.answer.inputs, name)} | {"id": row.id, "group": row.group}
            for row in self.labelled
        ]
        self._dealt = _deal(rows, lambda row: str(row[name]), set(), self.seed)
        self.kinds, self.later = self._dealt.kinds, self._dealt.later
        among = self.kinds if len(self.kinds) > 1 else self.kinds | self.later  # of two labels, one comes later
        swapped = sorted(among, key=lambda kind: hash_order(kind, self.seed))
        swapped = swapped[: max(2, len(swapped) // 4 * 2)]
        pairs = zip(swapped[::2], swapped[1::2], strict=False)
        self._swap = {old: new for a, b in pairs for old, new in ((a, b), (b, a))}

    def write(self, stage: int) -> None:
        """See `World`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / _LABELS, jsonl_text(self.rows("labelled", stage)))

    def rows(self, part: Part, stage: int) -> list[Row]:
        """See `World`."""
        name = self.answer.name
        rows = self._dealt.at(part, stage)
        return rows if stage < AMENDED else [{**row, name: self._swap.get(row[name], row[name])} for row in rows]

    def is_new(self, row: Row) -> bool:
        """See `World`."""
        return str(row["id"]) in self._dealt.new

    def configured(self, config: CompileConfig) -> CompileConfig:
        """See `World`."""
        task: Any = getattr(config, "task")  # noqa: B009 - only settings of a task have it
        return config.model_copy(update={"task": task.model_copy(update={self.setting: self.folder / _LABELS})})


def _deal(rows: Sequence[Row], kind: Callable[[Row], str], first: set[str], seed: int) -> _Dealt:
    """Deal rows; a third of the kinds, if nothing else is said, comes later."""
    by_kind = defaultdict[str, list[Row]](list)
    for row in rows:
        by_kind[kind(row)].append(row)
    if len(by_kind) < 2:
        raise SetupError("A rehearsal needs questions of at least two kinds, since new kinds are asked in it.")
    kinds = first
    share = sum(len(by_kind[name]) for name in first) / len(rows)
    if not 0.25 <= share <= 0.75:
        order = sorted(by_kind, key=lambda name: hash_order(name, seed))
        kinds = set(order[: max(1, round(2 * len(order) / 3))])
    parts: dict[Part, list[Row]] = {name: [] for name, _ in SHARES}
    for name in sorted(by_kind):
        members = sorted(by_kind[name], key=lambda row: hash_order(str(row["id"]), seed))
        begin = 0.0
        for part, share in SHARES:
            end = begin + share
            parts[part] += members[round(begin * len(members)) : round(end * len(members))]
            begin = end
    new = frozenset(str(row["id"]) for row in rows if kind(row) not in kinds)
    return _Dealt(frozenset(kinds), frozenset(by_kind) - kinds, parts, new)
