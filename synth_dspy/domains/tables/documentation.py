"""A table's documentation: a description and a comment for each column, by any program that comments on one of them.

There is one call for the table and one for each column, which shows its neighbours only. So a table with 500 columns
needs no longer prompts than one with five, no column is forgotten, and none is invented.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.domains.tables.schema import WHOLE, Table, comment_of, foci, line, view

log = logging.getLogger("synth_dspy.domains.tables")

LONGEST = 400
"""Most characters of a comment; a longer one is cut after the last sentence that fits."""


_AGAIN = re.compile(r"\b(\w.{1,60}?)(?:[,;.]?\s+\1\b)+", re.I)
"""A phrase that is repeated at once, as degenerating models do."""


@dataclass(frozen=True, slots=True)
class Comment:
    """The comment on a column, or on the table if `column` is `schema.WHOLE`; `written` if a program wrote it."""

    column: str
    text: str
    written: bool = True


@dataclass(frozen=True, slots=True)
class TableDoc:
    """The documentation of a table, in the order of its columns, without those that could not be documented."""

    table: Table
    comments: tuple[Comment, ...]

    @property
    def description(self) -> str:
        """The comment on the table; empty without one."""
        return self.of(WHOLE)

    def of(self, column: str) -> str:
        """The comment on a column; empty without one."""
        return next((comment.text for comment in self.comments if comment.column == column), "")

    @property
    def new(self) -> tuple[Comment, ...]:
        """The comments that the program wrote."""
        return tuple(comment for comment in self.comments if comment.written)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Errors of a documentation: columns without a comment, comments on unknown columns, columns with several."""

    missing: tuple[str, ...]
    invented: tuple[str, ...]
    repeated: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Every column exactly once, and none invented."""
        return not (self.missing or self.invented or self.repeated)


def coverage(table: Table, commented: Iterable[str]) -> Coverage:
    """Compare the names that a documentation comments on with the table's; `WHOLE` stands for the table."""
    counts = Counter(commented)
    wanted = foci(table)
    return Coverage(
        missing=tuple(name for name in wanted if not counts[name]),
        invented=tuple(name for name in counts if name not in wanted),
        repeated=tuple(name for name, count in counts.items() if count > 1),
    )


def document(
    program: Callable[..., Any],
    tables: Sequence[Table],
    executor: Executor,
    *,
    again: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[TableDoc]:
    """Document tables with a program `(table=..., column=...) -> answer`.

    Args:
        program: called once for every comment, many at a time.
        tables: what to document.
        executor: runs the calls.
        again: also replace existing comments, which are kept by default.
        progress: called with the number of comments written since the last call.

    Returns:
        A documentation for each table, in their order, without columns for which the program fails or writes nothing.

    Raises:
        SetupError: the model cannot be used at all.
        ModelError: every call failed.
    """
    wanted = [(table, focus) for table in tables for focus in foci(table) if again or not comment_of(table, focus)]

    def write(piece: tuple[Table, str]) -> str:
        table, focus = piece
        return clean(str(program(table=view(table, focus), column=line(table, focus)).answer))

    outcomes = executor.map(write, wanted, progress=progress)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if errors and (len(errors) == len(outcomes) or isinstance(errors[0], SetupError)):
        first = errors[0]
        raise first if isinstance(first, SetupError) else ModelError(f"No comment was written: {first!r}") from first
    written: dict[tuple[int, str], str] = {}
    for (table, focus), outcome in zip(wanted, outcomes, strict=True):
        if outcome.error is not None:
            log.warning("%s, %s could not be documented: %r", table.qualified, focus, outcome.error)
        elif text := outcome.unwrap():
            written[id(table), focus] = text
    return [_documentation(table, {focus: text for (of, focus), text in written.items() if of == id(table)})
            for table in tables]  # fmt: skip


def clean(text: str) -> str:
    """A model's reply as a comment: one line, without quotes, label and repetitions."""
    text = re.sub(r"^(?:comment|description)\s*:\s*", "", " ".join(text.split()), flags=re.I).strip('`"“” ')
    text = _AGAIN.sub(r"\1", text)
    if len(text) <= LONGEST:
        return text
    cut = text[:LONGEST]
    end = max(cut.rfind(mark) for mark in (". ", "; ", "! "))
    return cut[: end + 1] if end > 0 else cut[: cut.rfind(" ")] if " " in cut else cut


def _documentation(table: Table, written: Mapping[str, str]) -> TableDoc:
    comments = []
    for focus in foci(table):
        if focus in written:
            comments.append(Comment(focus, written[focus]))
        elif there := comment_of(table, focus):
            comments.append(Comment(focus, there, written=False))
    return TableDoc(table, tuple(comments))
