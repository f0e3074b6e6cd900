"""What a table is, and how a prompt shows it: one short line of its columns, one line of what is asked about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

WHOLE = "(the whole table)"
"""What stands in place of a column where the comment of the table itself is asked for."""

NEIGHBOURS = 10
"""Columns that a prompt shows of a table: with these it stays below 200 tokens, and a table may have any number."""

_RUNS = re.compile(r"[^\W\d_]+|\d+")


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: as the database has it, without quotes.
        type: as its dialect writes it; may be empty.
        nullable: whether it may be NULL.
        key: whether it is of the primary key.
        references: `table.column` that it is a foreign key to, or empty.
        comment: what a person wrote about it, or empty.
        samples: some of its values, as text.
        quoted: whether its name is exactly this; False where a script wrote it without quotes, so that case is folded.
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
        schema: empty where none is named.
        comment: what a person wrote about it, or empty.
        dialect: as sqlglot calls it.
        quoted: as for a column.
        definition: the statement that made it, where the database keeps that (SQLite does).
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
        """`schema.table`, or the name alone in a schema that is there by default; for people, not for SQL."""
        return self.name if self.schema in ("", "main", "public", "dbo") else f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        """The column of that name; case counts only where two differ in nothing else."""
        same = [column for column in self.columns if column.name.lower() == name.lower()]
        return next((column for column in same if column.name == name), same[0] if same else None)


def words(name: str) -> list[str]:
    """The words of an identifier, in lower case: `CustomerID_2` gives customer, id, 2."""
    found = []
    for run in _RUNS.findall(name):
        start = 0
        for i in range(1, len(run)):
            humps = run[i].isupper() and (run[i - 1].islower() or (i + 1 < len(run) and run[i + 1].islower()))
            if humps:
                found.append(run[start:i].lower())
                start = i
        found.append(run[start:].lower())
    return found


def view(table: Table, focus: str = WHOLE, most: int = NEIGHBOURS) -> str:
    """The table as a prompt shows it: its name and the names of its columns, those next to the focus where it is wide.

    Args:
        table: any table.
        focus: the name of the column that is asked about, or `WHOLE`.
        most: columns shown.
    """
    names = [column.name for column in table.columns]
    place = names.index(focus) if focus in names else 0
    start = max(0, min(place - most // 2, len(names) - most))
    shown = names[start : start + most]
    before, after = "..., " if start else "", ", ..." if start + most < len(names) else ""
    return f"{table.qualified} ({before}{', '.join(shown)}{after})"


def line(table: Table, focus: str) -> str:
    """What is asked about, in one line: a column's name, type, key and samples, or `WHOLE`."""
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


def asked(table: Table, focus: str) -> str:
    """What is asked, for the report and the judge."""
    return table.qualified if focus == WHOLE else f"{table.qualified}: {line(table, focus)}"


def foci(table: Table) -> list[str]:
    """Everything that is documented of a table, once: itself, then its columns in order."""
    return [WHOLE, *(column.name for column in table.columns)]


def comment_of(table: Table, focus: str) -> str:
    """The comment that is there already, or an empty string."""
    column = None if focus == WHOLE else table.column(focus)
    return table.comment if column is None else column.comment


def vocabulary(table: Table) -> frozenset[str]:
    """All words of the table's identifiers."""
    names: Iterable[str] = (table.name, table.schema, *(column.name for column in table.columns))
    return frozenset(word for name in names for word in words(name))
