"""Output formats of documentation: Markdown, SQL in a dialect, and dbt's `schema.yml`.

Names and comments are escaped: quotes, pipes, line breaks and templates come through unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.text import one_line
from synth_dspy.domains.tables.ddl import identifier, literal
from synth_dspy.domains.tables.definition import with_remarks
from synth_dspy.domains.tables.documentation import Comment, TableDoc
from synth_dspy.domains.tables.schema import WHOLE, Column, Table

_ON = ("COMMENT ON TABLE {table} IS {text}", "COMMENT ON COLUMN {table}.{column} IS {text}")
_SPARK = ("COMMENT ON TABLE {table} IS {text}", "ALTER TABLE {table} ALTER COLUMN {column} COMMENT {text}")
_PROPERTY = "EXEC sp_addextendedproperty 'MS_Description', {text}, 'SCHEMA', {schema_text}, 'TABLE', {table_text}"

STATEMENTS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("postgres", "duckdb", "oracle", "snowflake", "redshift", "trino"), _ON),
    **dict.fromkeys(("spark", "databricks"), _SPARK),
    "bigquery": (
        "ALTER TABLE {table} SET OPTIONS (description = {text})",
        "ALTER TABLE {table} ALTER COLUMN {column} SET OPTIONS (description = {text})",
    ),
    "clickhouse": ("ALTER TABLE {table} MODIFY COMMENT {text}", "ALTER TABLE {table} COMMENT COLUMN {column} {text}"),
    "tsql": (_PROPERTY, f"{_PROPERTY}, 'COLUMN', {{column_text}}"),
}  # fmt: skip
"""By dialect, the statements that set a comment on an existing table and column."""


def has_comments(dialect: str) -> bool:
    """Whether comments can be set on existing tables without repeating their definition (not in SQLite and MySQL)."""
    return dialect in STATEMENTS


def statements(doc: TableDoc, dialect: str | None = None, comments: Sequence[Comment] | None = None) -> list[str]:
    """The SQL statements that set the comments, without semicolons.

    Args:
        doc: a table's documentation.
        dialect: the table's own unless given.
        comments: those to set; by default all.

    Raises:
        SetupError: the dialect has no statement for it.
    """
    dialect = dialect or doc.table.dialect
    if not has_comments(dialect):
        raise SetupError(
            f"{_title(dialect)} has no statement that sets a comment on an existing table: "
            "write Markdown, dbt's schema.yml or the annotated CREATE TABLE instead."
        )
    made = []
    for comment in doc.comments if comments is None else comments:
        table, column = doc.table, comment.column
        definition = table.column(column)
        values = {
            "table": identifier(table.schema, table.name, dialect=dialect, quoted=table.quoted),
            "column": identifier(column, dialect=dialect, quoted=definition is None or definition.quoted),
            "text": literal(comment.text, dialect),
            "schema_text": literal(table.schema or "dbo", dialect),
            "table_text": literal(table.name, dialect),
            "column_text": literal(column, dialect),
        }
        template = STATEMENTS[dialect][0 if column == WHOLE else 1]
        made.append(re.sub(r"\{(\w+)\}", lambda match, values=values: values[match[1]], template))  # type: ignore[misc]
    return made


def script(docs: Sequence[TableDoc], dialect: str, only_new: bool = False) -> str:
    """The statements of several tables as a script; for a dialect without such statements, annotated definitions."""
    if not has_comments(dialect):
        head = (
            f"-- {_title(dialect)} sets no comments on existing tables: these definitions are for reading, "
            "without indexes, views and triggers.\n"
        )
        return head + "\n".join(annotated(doc) for doc in docs)
    parts = [statements(doc, dialect, doc.new if only_new else None) for doc in docs]
    return "".join(f"{statement};\n" for part in parts for statement in part)


def annotated(doc: TableDoc) -> str:
    """The table's definition with `-- comments`, which databases ignore.

    It is the original statement if the database keeps it; otherwise columns, types and primary key.
    """
    table = doc.table
    head = f"-- {one_line(doc.description)}\n" if doc.description else ""
    if table.definition:
        comments = {column.name: one_line(doc.of(column.name)) for column in table.columns}
        return head + with_remarks(table.definition, comments)
    width = max((len(column.name) for column in table.columns), default=0) + 2
    key = ", ".join(_column(table, column) for column in table.columns if column.key)
    lines = []
    for number, column in enumerate(table.columns, start=1):
        parts = [_column(table, column).ljust(width), column.type, "" if column.nullable else "NOT NULL"]
        end = "," if key or number < len(table.columns) else ""
        text = one_line(doc.of(column.name))
        lines.append("  " + " ".join(filter(None, parts)).rstrip() + end + (f"  -- {text}" if text else ""))
    if key:
        lines.append(f"  PRIMARY KEY ({key})")
    full = identifier(table.schema, table.name, dialect=table.dialect, quoted=table.quoted)
    return f"{head}CREATE TABLE {full} (\n" + "\n".join(lines) + "\n);\n"


def _column(table: Table, column: Column) -> str:
    return identifier(column.name, dialect=table.dialect, quoted=column.quoted)


def markdown(docs: Sequence[TableDoc]) -> str:
    """A section with a pipe table for each table (GitHub's Markdown)."""
    sections = []
    for doc in docs:
        rows = ["| column | type | description |", "| --- | --- | --- |"]
        for column in doc.table.columns:
            cells = (column.name, column.type, doc.of(column.name))
            rows.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
        head = [f"## {_escaped(doc.table.qualified)}", _escaped(doc.description), "\n".join(rows)]
        sections.append("\n\n".join(part for part in head if part))
    return "\n\n".join(sections) + "\n"


def dbt(docs: Sequence[TableDoc]) -> str:
    """dbt's `schema.yml`: a model for each table. dbt renders descriptions as Jinja, so template syntax is quoted."""
    import yaml

    models: list[dict[str, Any]] = []
    for doc in docs:
        entries = [{"name": column.name, "description": _jinja(doc.of(column.name))} for column in doc.table.columns]
        models.append({"name": doc.table.name, "description": _jinja(doc.description), "columns": entries})
    text: str = yaml.safe_dump({"version": 2, "models": models}, sort_keys=False, allow_unicode=True, width=100)
    return text


@dataclass(frozen=True, slots=True)
class Format:
    """A file's format: how documentation is written in it, for a dialect."""

    write: Callable[[Sequence[TableDoc], str], str]


FORMATS: Mapping[str, Format] = {
    ".md": Format(lambda docs, dialect: markdown(docs)),
    ".sql": Format(lambda docs, dialect: script(docs, dialect, only_new=True)),
    ".yml": Format(lambda docs, dialect: dbt(docs)),
    ".yaml": Format(lambda docs, dialect: dbt(docs)),
}
"""By a file's ending."""

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&!])")
_LIST = re.compile(r"^(\d*)([-+=.)])")
_TEMPLATE = re.compile(r"\{[{%#]")


def _escaped(text: str) -> str:
    """Text escaped for Markdown, in one line; a line break becomes `<br>`."""
    line = "<br>".join(_MARKDOWN.sub(r"\\\1", part.strip()) for part in text.splitlines())
    return _LIST.sub(r"\1\\\2", line)


def _jinja(text: str) -> str:
    return _TEMPLATE.sub(lambda match: "{{ '" + match[0] + "' }}", text)


def _title(dialect: str) -> str:
    return {"sqlite": "SQLite", "mysql": "MySQL"}.get(dialect, dialect)
