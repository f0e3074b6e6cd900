"""SQL in: comments wherever a dialect keeps them, keys, and whether a statement runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth_dspy.domains.tables.ddl import DdlError, parse_script, parse_table, run_in_duckdb

ON = "COMMENT ON TABLE t IS 'it''s the table'; COMMENT ON COLUMN t.id IS 'the key'"
COMMENTED = {
    "mysql": "CREATE TABLE t (id INT PRIMARY KEY COMMENT 'the key', x INT) COMMENT='it''s the table'",
    "snowflake": "CREATE OR REPLACE TABLE t (id NUMBER COMMENT 'the key', x INT) COMMENT = 'it''s the table'",
    "spark": "CREATE TABLE t (id BIGINT COMMENT 'the key', x INT) USING delta COMMENT \"it's the table\"",
    "bigquery": "CREATE TABLE t (id INT64 OPTIONS(description='the key'), x INT64) "
    'OPTIONS(description="it\'s the table")',
    "clickhouse": "CREATE TABLE t (id UInt64 COMMENT 'the key', x Int8) ENGINE=MergeTree ORDER BY id "
    "COMMENT 'it\\'s the table'",
    "postgres": f"CREATE TABLE t (id int, x int); {ON}",
    "oracle": f"CREATE TABLE T (ID NUMBER, X NUMBER); {ON}",
}


@pytest.mark.parametrize("dialect", COMMENTED)
def test_comments_are_read_where_the_dialect_keeps_them(dialect: str) -> None:
    (statement,) = parse_script(COMMENTED[dialect], dialect)
    assert statement.table.comment == "it's the table"
    assert [column.comment for column in statement.table.columns] == ["the key", ""]


@pytest.mark.parametrize(
    ("created", "commented", "dialect"),
    [
        ("public.users", "public.users", "postgres"),  # as pg_dump writes it
        ("users", "public.users", "postgres"),
        ("public.users", "users", "postgres"),
        ("PUBLIC.USERS", "public.users", "snowflake"),
        ("main.users", "main.users", "duckdb"),
        ("sales.users", "sales.users", "postgres"),
    ],
)
def test_comments_find_their_table_with_and_without_a_default_schema(
    created: str, commented: str, dialect: str
) -> None:
    (statement,) = parse_script(
        f"CREATE TABLE {created} (id int, nm text); COMMENT ON TABLE {commented} IS 'People.'; "
        f"COMMENT ON COLUMN {commented}.nm IS 'Full name'; COMMENT ON COLUMN other.users.id IS 'not here'",
        dialect,
    )
    assert statement.table.comment == "People."
    assert [column.comment for column in statement.table.columns] == ["", "Full name"]


def test_keys_are_found_in_the_column_and_below_the_columns() -> None:
    table = parse_table(
        "CREATE TABLE s.line (a INT, b INT REFERENCES prod (id), c INT NOT NULL, d INT, PRIMARY KEY (a, c), "
        "FOREIGN KEY (d) REFERENCES other.dept (no))",
        "postgres",
    )
    assert table.qualified == "s.line"
    assert [column.key for column in table.columns] == [True, False, True, False]
    assert [column.references for column in table.columns] == ["", "prod.id", "", "dept.no"]
    assert [column.nullable for column in table.columns] == [False, True, False, True]


@pytest.mark.parametrize(
    ("sql", "dialect"),
    [
        ("CREATE TABLE a (id INT PRIMARY KEY, up INT, FOREIGN KEY (up) REFERENCES a (id))", "postgres"),
        ("CREATE TABLE a (x INT, y INT, FOREIGN KEY (x, y) REFERENCES b (p, q))", "mysql"),
        ("CREATE TABLE a (id BIGSERIAL PRIMARY KEY, b INT REFERENCES s.b (id)) ", "postgres"),
        ("CREATE TABLE [a] ([id] INT IDENTITY(1,1), [n] NVARCHAR(MAX), PRIMARY KEY ([id]))", "tsql"),
        ("CREATE TABLE a (id NUMBER(10) GENERATED ALWAYS AS IDENTITY, n VARCHAR2(30 CHAR) DEFAULT 'x')", "oracle"),
        ("CREATE TABLE a (id UInt64, d LowCardinality(String)) ENGINE=MergeTree ORDER BY id", "clickhouse"),
        ("CREATE TABLE a (r REAL(9, 2), t TEXT)", "sqlite"),
    ],
)
def test_what_other_dialects_write_runs_in_duckdb(sql: str, dialect: str) -> None:
    run_in_duckdb(sql, dialect)
    run_in_duckdb(sql, dialect)  # nothing of it was left


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("CREATE TABLE a (id INT", "does not parse"),
        ("Here is your table:", "does not parse"),
        ("SELECT 1", "does not parse"),
        ("CREATE TABLE a (id INT); DROP TABLE b", "does not parse"),
        ("CREATE TABLE a (id NO_SUCH_TYPE)", "does not run"),
        ("CREATE TABLE a (id INT, id INT)", "does not run"),
        ("CREATE TABLE a (id INT PRIMARY KEY, PRIMARY KEY (missing))", "does not run"),
    ],
)
def test_what_fails_says_whether_it_parses(sql: str, kind: str) -> None:
    with pytest.raises(DdlError, match=kind):
        run_in_duckdb(sql, "duckdb")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a AS SELECT * FROM '{}/x.csv'",
        "CREATE TABLE a AS SELECT * FROM range(1000000000000)",
        "CREATE VIEW a AS SELECT * FROM '{}/x.csv'",
        "CREATE MACRO a() AS (SELECT 1)",
        "CREATE SCHEMA a",
    ],
)
def test_a_statement_reads_no_file_and_asks_nothing(tmp_path: Path, sql: str) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    with pytest.raises(DdlError, match="not one CREATE TABLE of columns"):
        run_in_duckdb(sql.format(tmp_path), "duckdb")


@pytest.mark.parametrize(
    "sql", ["CREATE TABLE a (x INT); CREATE TABLE b (y INT)", "SELECT 1", "CREATE TABLE a (x INT, X INT)"]
)
def test_one_table_with_distinct_columns_is_asked_for(sql: str) -> None:
    with pytest.raises(DdlError):
        parse_table(sql, "duckdb")
