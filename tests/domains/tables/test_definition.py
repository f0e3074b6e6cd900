"""Definitions with remarks: SQLite runs them, and every table is as it was, whatever its statement holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hostile import NAMES, TEXTS

from synth_dspy.domains.tables.ddl import identifier
from synth_dspy.domains.tables.definition import with_remarks
from synth_dspy.pipeline.database import document_database

HOSTILE = ", ".join(f"{identifier(name, dialect='sqlite')} TEXT DEFAULT 'a, (b'" for name in NAMES)
TABLES = [
    "CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE DEFAULT 'x, (y')",
    "CREATE TABLE b (x INT, y INT REFERENCES a (id) ON DELETE CASCADE,\n  PRIMARY KEY (y, x), CHECK (x > 0))"
    " WITHOUT ROWID",
    "CREATE TABLE c (\n    'text' TEXT, -- old, (remark\n    [two words] INT /* , z */, `check` NUMERIC(10, 2) NOT NULL"
    "\n, UNIQUE (`check`) -- last\n) -- end",
    "CREATE TABLE d (x INT GENERATED ALWAYS AS (y * 2) VIRTUAL, y INT COLLATE NOCASE, FOREIGN KEY (y) REFERENCES a)",
    "CREATE TABLE e AS SELECT 1 AS one, 'two' AS [t,(o]",
    f"CREATE TABLE hostile ({HOSTILE})",
]


def shape(path: Path) -> dict[str, Any]:
    """Of each table: columns with keys and defaults, foreign keys, unique indexes."""
    pragmas = [f"SELECT * FROM pragma_{name}(?)" for name in ("table_xinfo", "foreign_key_list", "index_list")]
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {table[0]: [connection.execute(pragma, table).fetchall() for pragma in pragmas] for table in tables}


class Saying:
    def __call__(self, table: str, column: str) -> Any:
        from dspy import Prediction

        return Prediction(answer=f"{column}: so, (it's) -- said; ")


def test_a_script_of_sqlite_makes_the_very_tables_that_it_documents(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.executescript("".join(f"{table}\n;" for table in TABLES))
        connection.execute("ALTER TABLE b ADD COLUMN added TEXT NOT NULL DEFAULT ''")
        connection.execute("ALTER TABLE a RENAME COLUMN name TO 'new name'")
    document_database(Saying(), f"sqlite:///{tmp_path / 'old.db'}", tmp_path / "x.sql")
    script = (tmp_path / "x.sql").read_text()
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        connection.executescript(script)
    old = shape(tmp_path / "old.db")
    assert shape(tmp_path / "new.db") == old
    assert [column[5] for column in old["b"][0]] == [2, 1, 0]  # pk
    assert script.count("\n-- (the whole table)") == len(TABLES)
    for column in ("id integer, primary key", "x int, primary key", "added text", "new name text", "two words int"):
        assert f"  -- {column}" in script
    shown = [column for name, (columns, *_) in old.items() if name != "sqlite_sequence" for column in columns]
    assert script.count("said;") == len(TABLES) + sum(not hidden for *_, hidden in shown)


def test_a_virtual_table_stands_in_nobodys_way(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5 (said, heard)")
        except sqlite3.OperationalError:
            pytest.skip("this SQLite was built without full-text search")
    document_database(Saying(), f"sqlite:///{tmp_path / 'old.db'}", tmp_path / "x.sql")
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        connection.executescript((tmp_path / "x.sql").read_text())
    assert shape(tmp_path / "new.db").keys() == {"words"}


def test_remarks_stand_before_their_columns_and_nothing_else_changes() -> None:
    comments = {"a": "first", "b": "second", "none": "of no column"}
    assert with_remarks("CREATE TABLE t (a INT, c INT,\n    b INT -- old\n)", comments) == (
        "CREATE TABLE t (\n  -- first\n  a INT, c INT,\n    -- second\n    b INT -- old\n);\n"
    )
    assert with_remarks('CREATE TABLE "t (a" (a INT) -- end', {}) == 'CREATE TABLE "t (a" (a INT) -- end\n;\n'


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_found_whatever_it_holds(name: str) -> None:
    quoted = identifier(name, dialect="sqlite")
    made = with_remarks(f"CREATE TABLE t ({quoted} INT)", {name: TEXTS[0]})
    assert made.startswith(f"CREATE TABLE t (\n  -- {TEXTS[0]}\n  {quoted} INT)")
