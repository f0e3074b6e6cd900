"""Labelled tables: people's comments as rows, one for each table and one for each column.

They are read from two kinds of files. SQL scripts have comments in the statements or in `COMMENT ON`, in the dialect
named by the file (`mysql.sql`, `shop.postgres.sql`; else PostgreSQL). JSON lines have `ddl`, and perhaps `dialect`,
`table_comment` and `column_comments` (from column to comment), as AdventureWorks is published.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, TEXT, read_rows
from synth_dspy.core.io.reading import read_text
from synth_dspy.domains.tables.ddl import DdlError, is_dialect, parse_script, parse_table
from synth_dspy.domains.tables.schema import WHOLE, Table, comment_of, foci, line, program_inputs, view

if TYPE_CHECKING:
    import dspy

INPUTS = ("table", "column")
GOLD = "gold"


def _comments(value: Any) -> str | None:
    good = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    return None if good else "make it an object of columns' names and their comments"


def read_tables(path: Path) -> list[Table]:
    """The tables of a file or of a folder's `.sql` and `.jsonl` files, with their comments.

    Raises:
        SetupError: there is nothing to read, or a statement does not parse; names the file and the place.
    """
    if not path.exists():
        raise SetupError(f"The tables {path} do not exist: name a .sql or .jsonl file, or a folder of such files.")
    files = sorted(p for p in path.iterdir() if p.suffix in (".sql", ".jsonl")) if path.is_dir() else [path]
    tables: dict[str, Table] = {}
    for file in files:
        for table in _json_lines(file) if file.suffix == ".jsonl" else _script(file):
            if table.qualified in tables:
                raise SetupError(f"The table {table.qualified} is created twice, the second time in {file}.")
            tables[table.qualified] = table
    if not tables:
        raise SetupError(f"There is no CREATE TABLE in {path}: name a .sql or .jsonl file with tables.")
    return list(tables.values())


def script_dialect(file: Path) -> str:
    """The dialect in a script's name (`mysql.sql`, `shop.mysql.sql`), else postgres."""
    named = [part for part in file.name.lower().split(".")[:-1] if is_dialect(part)]
    return named[-1] if named else "postgres"


def rows_of(table: Table) -> Iterator[dspy.Example]:
    """The labelled rows of a table: one for each comment."""
    for focus in foci(table):
        if comment := comment_of(table, focus):
            yield row(table, focus, comment)


def row(table: Table, focus: str, comment: str) -> dspy.Example:
    """The row of one comment: the program's inputs `table` and `column`, its output `comment`, fields for metrics."""
    import dspy

    fields = row_fields(table, focus)
    fields |= {"comment": comment, "answer": comment, "references": [comment]}
    return dspy.Example(id=_id(table, focus), group=table.qualified, origin=GOLD, **fields).with_inputs(*INPUTS)


def row_fields(table: Table, focus: str) -> dict[str, Any]:
    """A row's fields other than the comment."""
    return {
        "table": view(table, focus),
        "column": line(table, focus),
        "question": program_inputs(table, focus),
        "focus": table.name if focus == WHOLE else focus,
        "names": [table.name, *(column.name for column in table.columns)],
        "category": _category(table, focus),
        "answer_type": "comment",
    }


def _category(table: Table, focus: str) -> str:
    column = None if focus == WHOLE else table.column(focus)
    if column is None:
        return "table"
    return "key" if column.key else "foreign key" if column.references else "column"


def _id(table: Table, focus: str) -> str:
    return table.qualified if focus == WHOLE else f"{table.qualified}.{focus}"


def _script(file: Path) -> list[Table]:
    dialect = script_dialect(file)
    try:
        return [statement.table for statement in parse_script(read_text(file, "The script"), dialect)]
    except DdlError as error:
        raise SetupError(
            f"The script {file} was read as {dialect} and {error}. Put the dialect into the file's name, as in "
            "shop.mysql.sql, or correct the statement."
        ) from error


def _json_lines(file: Path) -> Iterator[Table]:
    optional = {"dialect": FILLED, "table_comment": TEXT, "column_comments": _comments}
    for number, entry in enumerate(read_rows(file, {"ddl": FILLED}, optional=optional), start=1):
        dialect = entry.get("dialect") or "postgres"
        try:
            if not is_dialect(dialect):
                raise DdlError("does not parse", f"there is no dialect {dialect!r}")
            table = parse_table(entry["ddl"], dialect)
        except DdlError as error:
            raise SetupError(f"{file}, row {number}: the field 'ddl' {error}.") from error
        comments = {name.lower(): " ".join(text.split()) for name, text in (entry.get("column_comments") or {}).items()}
        columns = (replace(c, comment=comments.get(c.name.lower(), c.comment)) for c in table.columns)
        comment = " ".join((entry.get("table_comment") or table.comment).split())
        yield replace(table, columns=tuple(columns), comment=comment)
