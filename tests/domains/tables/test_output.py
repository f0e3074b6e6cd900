"""Whatever names and comments hold is read back as it was: by DuckDB, sqlglot, a Markdown parser, PyYAML and Jinja."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from itertools import pairwise

import duckdb
import jinja2
import pytest
import sqlglot
import yaml
from hostile import NAMES, TEXTS, hostile
from markdown_it import MarkdownIt
from sqlglot import exp

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.tables.catalogue import open_catalogue
from synth_dspy.domains.tables.ddl import identifier
from synth_dspy.domains.tables.documentation import Comment, TableDoc
from synth_dspy.domains.tables.output import STATEMENTS, annotated, dbt, markdown, script, statements
from synth_dspy.domains.tables.schema import WHOLE, Column, Table

QUOTED = ", ".join(identifier(name, dialect="duckdb") + " INTEGER" for name in NAMES)


def test_duckdb_keeps_every_comment_as_it_was(tmp_path) -> None:
    doc = hostile()
    file = tmp_path / "x.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"CREATE TABLE {identifier(doc.table.name, dialect='duckdb')} ({QUOTED})")
        connection.execute(script([doc], "duckdb"))
    (table,) = open_catalogue(f"duckdb:///{file}").tables()
    assert table.comment == doc.description
    assert {column.name: column.comment for column in table.columns} == dict(zip(NAMES, TEXTS, strict=True))


@pytest.mark.parametrize("dialect", [d for d in STATEMENTS if STATEMENTS[d] == STATEMENTS["postgres"]])
def test_comment_on_parses_back_in_its_dialect(dialect: str) -> None:
    doc = hostile(dialect, schema='s"x')
    parsed = sqlglot.parse(script([doc], dialect), dialect=dialect)
    assert [statement.expression.name for statement in parsed] == [doc.description, *TEXTS]
    assert [statement.this.name for statement in parsed] == [doc.table.name, *NAMES]
    assert all(isinstance(statement, exp.Comment) for statement in parsed)


@pytest.mark.parametrize("dialect", ["bigquery", "spark", "databricks", "clickhouse", "tsql"])
def test_other_dialects_statements_are_one_statement_each_with_the_comment_in_one_literal(dialect: str) -> None:
    for statement, text in zip(statements(hostile(dialect)), [hostile().description, *TEXTS], strict=True):
        tokens = sqlglot.tokenize(statement, dialect=dialect)
        assert text in [token.text for token in tokens]
        assert ";" not in [token.text for token in tokens]


@pytest.mark.parametrize("dialect", ["sqlite", "mysql"])
def test_dialects_without_such_a_statement_say_so_and_get_annotated_definitions(dialect: str) -> None:
    with pytest.raises(SetupError, match="has no statement that sets a comment"):
        statements(hostile(dialect))
    written = script([hostile(dialect)], dialect)
    assert "for reading" in written.splitlines()[0]
    assert "Robert'); DROP TABLE students;--" in written


def test_an_annotated_definition_runs_in_sqlite_and_drops_nothing() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE students (x);" + annotated(hostile("sqlite")))
        assert [row[1] for row in connection.execute("SELECT * FROM pragma_table_info('t\"a|b')")] == NAMES
        assert connection.execute("SELECT count(*) FROM students").fetchone() == (0,)


def test_without_a_statement_of_its_own_a_definition_has_its_primary_key() -> None:
    columns = (Column("order", "INTEGER", False, True), Column("line", "INTEGER", False, True), Column("said", "TEXT"))
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(annotated(TableDoc(Table("t", columns, dialect="sqlite"), (Comment("said", "x"),))))
        assert [row[5] for row in connection.execute("SELECT * FROM pragma_table_info('t')")] == [1, 2, 0]


def test_markdown_shows_names_and_comments_as_they_are() -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown([hostile()]))
    cells = []
    for before, token in pairwise(tokens):
        if before.type == "td_open":
            assert all(child.type in ("text", "text_special", "html_inline") for child in token.children)
            assert all(child.content == "<br>" for child in token.children if child.type == "html_inline")
            cells.append("".join("\n" if child.type == "html_inline" else child.content for child in token.children))
    assert cells[0::3] == NAMES
    assert cells[2::3] == TEXTS


@pytest.mark.parametrize("text", ["- no list", "+ none", "1. nor this", "2) nor that", "=== no heading", "# none"])
def test_a_description_is_a_paragraph_whatever_it_begins_with(text: str) -> None:
    from dataclasses import replace

    doc = replace(hostile(), comments=(Comment(WHOLE, text),))
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown([doc]))
    assert [token.type for token in tokens[3:5]] == ["paragraph_open", "inline"]
    assert "".join(child.content for child in tokens[4].children) == text


def test_dbt_yaml_gives_every_text_back_once_jinja_has_rendered_it() -> None:
    doc = hostile()
    (model,) = yaml.safe_load(dbt([doc]))["models"]
    render = lambda text: jinja2.Environment(keep_trailing_newline=True).from_string(text).render()  # noqa: E731
    assert model["name"] == doc.table.name
    assert render(model["description"]) == doc.description
    assert [column["name"] for column in model["columns"]] == NAMES
    assert [render(column["description"]) for column in model["columns"]] == TEXTS


def test_only_new_comments_are_in_a_script_that_is_to_be_run() -> None:
    from dataclasses import replace

    doc = hostile()
    kept = replace(doc, comments=tuple(replace(c, written=c.column != WHOLE) for c in doc.comments))
    assert len(re.findall(r"COMMENT ON TABLE", script([kept], "duckdb", only_new=True))) == 0
    assert len(re.findall(r"COMMENT ON COLUMN", script([kept], "duckdb", only_new=True))) == len(NAMES)
