"""Statements that create tables, and CUAD."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from inputs import damaged, json_files, line_files

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.domains.tables.ddl import DdlError, parse_script, parse_table, run_in_duckdb
from synth_dspy.domains.tables.labelled import read_tables

DIALECTS = {
    "postgres": """CREATE TABLE shop.orders (id SERIAL PRIMARY KEY, customer INT REFERENCES shop.customers (id),
  total NUMERIC(10, 2) NOT NULL DEFAULT 0 CHECK (total >= 0), tags TEXT[], made TIMESTAMP WITH TIME ZONE);
COMMENT ON TABLE shop.orders IS 'Orders'; COMMENT ON COLUMN shop.orders.total IS 'In euros';""",
    "mysql": """CREATE TABLE `orders` (`id` INT(11) NOT NULL AUTO_INCREMENT COMMENT 'key', `s` ENUM('a','b'),
  PRIMARY KEY (`id`), CONSTRAINT `fk` FOREIGN KEY (`id`) REFERENCES `c` (`id`)) ENGINE=InnoDB COMMENT='Orders';""",
    "tsql": "CREATE TABLE [dbo].[Orders] ([Id] INT IDENTITY(1,1) NOT NULL, [Note] NVARCHAR(MAX) NULL);",
    "snowflake": "CREATE OR REPLACE TABLE t (v VARIANT COMMENT 'v', n NUMBER(38,0) AUTOINCREMENT) COMMENT = 'x';",
    "bigquery": "CREATE TABLE d.t (a STRUCT<b INT64, c ARRAY<STRING>> OPTIONS(description='x')) PARTITION BY DATE(a);",
}
CUAD = {
    "data": [
        {
            "title": "Distributor Agreement",
            "paragraphs": [
                {
                    "context": "This Agreement ends on 31 March 2027 and is governed by the laws of Kansas.",
                    "qas": [
                        {
                            "id": "x__Expiration Date",
                            "is_impossible": False,
                            "answers": [{"answer_start": 23, "text": "31 March 2027"}],
                        },
                        {"id": "x__Anti-Assignment", "is_impossible": True, "answers": []},
                    ],
                }
            ],
        }
    ]
}
CLAUSE = {
    "contract": "a1",
    "title": "T",
    "category": "Governing Law",
    "is_impossible": False,
    "answer_starts": [0],
    "answers": ["Kansas"],
    "normalized_answer": "Kansas",
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_scripts(dialect: str, fuzz: Any, fresh: Callable[[], Path]) -> None:
    valid = DIALECTS[dialect].encode()
    path = fresh() / f"shop.{dialect}.sql"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_tables(path)

    assert read(valid)
    fuzz(damaged(valid), read)


def test_statements_are_parsed_and_run(fuzz: Any) -> None:
    statements = st.sampled_from(sorted(DIALECTS)).flatmap(
        lambda dialect: st.tuples(st.just(dialect), damaged(DIALECTS[dialect].encode()))
    )

    def read(case: tuple[str, bytes]) -> None:
        dialect, content = case[0], case[1].decode(errors="replace")
        parse_table(content, dialect)
        run_in_duckdb(content, dialect)

    fuzz(statements, read)


def test_cuad_as_published(fuzz: Any, fresh: Callable[[], Path]) -> None:
    path = fresh() / "CUAD_v1.json"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_cuad(path)

    assert read(json.dumps(CUAD).encode())[1]
    fuzz(json_files(CUAD), read)


def test_cuad_by_clauses(fuzz: Any, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    (folder / "contracts").mkdir()
    (folder / "contracts" / "a1.txt").write_text("Kansas law applies.")

    def read(content: bytes) -> object:
        (folder / "clauses.jsonl").write_bytes(content)
        return read_cuad(folder)

    assert read(json.dumps(CLAUSE).encode())[0]
    fuzz(line_files([CLAUSE]), read)


def test_a_contracts_name_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "corpus" / "contracts").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "corpus" / "clauses.jsonl").write_text(json.dumps({**CLAUSE, "contract": "../../secret"}))
    with pytest.raises(SetupError, match="not the name of a file"):
        read_cuad(tmp_path / "corpus")


def test_a_column_without_a_name_is_refused() -> None:
    with pytest.raises(DdlError, match="does not parse"):
        parse_table("CREATE TABLE t (a INT, NUMERIC(10, 2) NOT NULL)", "postgres")


@pytest.mark.parametrize("depth", [30, 300, 3_000])
def test_brackets_without_end_do_not_hang(depth: int) -> None:
    for opening, closing in (("(", ")"), ("CASE WHEN 1 THEN ", " END"), ("f(", ")"), ("[", "]"), ("NOT ", "")):
        with pytest.raises(DdlError):
            parse_script(f"CREATE TABLE t (a INT CHECK ({opening * depth}1{closing * depth}) x y z", "postgres")
