"""Tables and columns, and their form in a prompt: one line for the table, one for the column to comment on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

WHOLE = "(the whole table)"
"""Takes the place of a column where the table itself is commented on."""

NEIGHBOURS = 10
"""Columns of a table that a prompt shows, which keeps it below 200 tokens however wide the table is."""

_RUNS = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: as the database has it, without quotes.
        type: as its dialect writes it; may be empty.
        nullable: whether it may be NULL.
        key: whether it is part of the primary key.
        references: `table.column` that it is a foreign key to, or empty.
        comment: a person's comment on it, or empty.
        samples: some of its values, as text.
        quoted: whether its case counts; False for a name without quotes in a script, whose case is folded.
    """

    name: str
    type: str = ""
    nullable: bool = True
    key: bool = False
    references: str = ""
    comment: str = ""
    samples: tuple[str, ...] = ()
    quoted: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its columns in order.

    Attributes:
        name: as the database has it, without quotes.
        columns: its columns.
        schema: its schema, or empty.
        comment: a person's comment on it, or empty.
        dialect: sqlglot's name.
        quoted: as for a column.
        definition: the statement that created it, if the database keeps it (as SQLite does).
    """

    name: str
    columns: tuple[Column, ...]
    schema: str = ""
    comment: str = ""
    dialect: str = "duckdb"
    quoted: bool = True
    definition: str = ""

    @property
    def qualified(self) -> str:
        """`schema.table`, or the name alone in a default schema; for people, not for SQL."""
        return self.name if self.schema in ("", "main", "public", "dbo") else f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        """The column of that name; case counts only if two names differ in nothing else."""
        same = [column for column in self.columns if column.name.lower() == name.lower()]
        return next((column for column in same if column.name == name), same[0] if same else None)


def words(name: str) -> list[str]:
    """The words of an identifier, in lower case: `CustomerID_2` gives customer, id, 2."""
    pieces = []
    for run in _RUNS.findall(name):
        start = 0
        for i in range(1, len(run)):
            humps = run[i].isupper() and (run[i - 1].islower() or (i + 1 < len(run) and run[i + 1].islower()))
            if humps:
                pieces.append(run[start:i].lower())
                start = i
        pieces.append(run[start:].lower())
    return pieces


def view(table: Table, focus: str = WHOLE, most: int = NEIGHBOURS) -> str:
    """The table in a prompt: its name and its columns' names; of a wide table, those next to the focus.

    Args:
        table: any table.
        focus: the name of the column to comment on, or `WHOLE`.
        most: the most columns to show.
    """
    names = [column.name for column in table.columns]
    place = names.index(focus) if focus in names else 0
    start = max(0, min(place - most // 2, len(names) - most))
    shown = names[start : start + most]
    before, after = "..., " if start else "", ", ..." if start + most < len(names) else ""
    return f"{table.qualified} ({before}{', '.join(shown)}{after})"


def viewed_table(view: str) -> str:
    """The name of the table that a `view` shows."""
    return view.partition(" (")[0].strip()


def line(table: Table, focus: str) -> str:
    """The focus in one line: a column's name, type, key and samples, or `WHOLE`."""
    column = None if focus == WHOLE else table.column(focus)
    if column is None:
        return WHOLE
    parts = [f"{column.name} {column.type.lower()}".strip()]
    if column.key:
        parts.append("primary key")
    if column.references:
        parts.append(f"foreign key to {column.references}")
    if column.samples:
        parts.append(f"values such as {'; '.join(column.samples)}")
    return ", ".join(parts)


def program_inputs(table: Table, focus: str) -> str:
    """The table and the focus as a question, for the report and the judge."""
    return table.qualified if focus == WHOLE else f"{table.qualified}: {line(table, focus)}"


def foci(table: Table) -> list[str]:
    """Everything to document in a table: itself, then its columns in order."""
    return [WHOLE, *(column.name for column in table.columns)]


def comment_of(table: Table, focus: str) -> str:
    """The existing comment, or an empty string."""
    column = None if focus == WHOLE else table.column(focus)
    return table.comment if column is None else column.comment


def vocabulary(table: Table) -> frozenset[str]:
    """All words of the table's identifiers."""
    names: Iterable[str] = (table.name, table.schema, *(column.name for column in table.columns))
    return frozenset(word for name in names for word in words(name))
