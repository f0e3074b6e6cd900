"""Labelled tables and industries as a source: files of two kinds, rows, and mistakes named."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.tables.labelled import read_tables, rows_of
from synth_dspy.domains.tables.source import Industries
from synth_dspy.domains.tables.units import IndustryItem, TableItem
from synth_dspy.pipeline import datasets

DATA = Path(__file__).resolve().parents[3] / "data" / "industries"
DDL = "CREATE TABLE shop.bill (bill_no INT PRIMARY KEY, sum NUMERIC(9, 2), kind INT REFERENCES kinds (id))"


def json_lines(path: Path, **fields: object) -> Path:
    path.write_text(json.dumps({"ddl": DDL, "table_comment": "All bills", **fields}) + "\n")
    return path


def test_rows_of_a_table_say_what_the_program_is_given_and_what_people_wrote(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "x.jsonl", column_comments={"Sum": "Total\n of the bill", "kind": "What it is for"})
    (table,) = read_tables(path)
    whole, total, kind = rows_of(table)
    assert whole.inputs().toDict() == {"table": "shop.bill (bill_no, sum, kind)", "column": "(the whole table)"}
    assert (whole.comment, whole.category, whole.focus) == ("All bills", "table", "bill")
    assert (total.column, total.references, total.category) == ("sum decimal(9, 2)", ["Total of the bill"], "column")
    assert (kind.column, kind.category) == ("kind int, foreign key to kinds.id", "foreign key")
    assert {row.group for row in (whole, total, kind)} == {"shop.bill"}
    assert len({row.id for row in (whole, total, kind)}) == 3


def test_the_dialect_is_in_the_name_of_a_script(tmp_path: Path) -> None:
    (tmp_path / "shop.mysql.sql").write_text("CREATE TABLE `t` (x INT COMMENT 'what x is') COMMENT='what t is';")
    (tmp_path / "more.sql").write_text("CREATE TABLE u (y int[]); COMMENT ON COLUMN u.y IS 'many';")
    one, other = sorted(read_tables(tmp_path), key=lambda table: table.name)
    assert (one.dialect, one.comment, one.columns[0].comment) == ("mysql", "what t is", "what x is")
    assert (other.dialect, other.columns[0].comment) == ("postgres", "many")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.sql", "CREATE TABLE a (", "Put the dialect into the file's name"),
        ("x.sql", "SELECT 1", "no CREATE TABLE"),
        ("x.sql", "CREATE TABLE a (x INT); CREATE TABLE b (x INT, x INT)", None),
        ("x.jsonl", json.dumps({"ddl": "no"}), "row 1: the field 'ddl'"),
        ("x.jsonl", json.dumps({"ddl": DDL, "dialect": "cobol"}), "no dialect 'cobol'"),
        ("x.jsonl", json.dumps({"ddl": DDL, "column_comments": ["a"]}), "line 1: field 'column_comments'"),
        ("x.jsonl", json.dumps({"sql": DDL}), "line 1: field 'ddl' is missing"),
        ("x.jsonl", f"{json.dumps({'ddl': DDL})}\n{json.dumps({'ddl': DDL})}", "created twice"),
    ],
)
def test_mistakes_are_said_with_their_place(tmp_path: Path, name: str, content: str, says: str | None) -> None:
    (tmp_path / name).write_text(content)
    if says is None:
        assert len(read_tables(tmp_path)) == 2
        return
    with pytest.raises(SetupError, match=says):
        read_tables(tmp_path / name)


def test_missing_files_and_missing_comments_are_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="do not exist"):
        read_tables(tmp_path / "none")
    (tmp_path / "bare.sql").write_text("CREATE TABLE a (x INT)")
    with pytest.raises(SetupError, match="have no comments"):
        Industries(DATA, tables=tmp_path / "bare.sql").read()


def test_a_table_is_wholly_in_one_split_and_every_split_has_human_comments() -> None:
    knowledge = Industries(DATA).read()
    splits = datasets.split(knowledge, 0)
    assert sum(len(split.labelled) for split in splits.values()) == len(knowledge.labelled) >= 340
    of = {name: {row.group for row in split.labelled} for name, split in splits.items()}
    assert not of["train"] & of["test"]
    assert not of["dev"] & of["test"]
    assert len(of["test"]) >= 10
    assert len({item.group for item in splits["train"].items if isinstance(item, IndustryItem)}) >= 40


def test_a_limit_takes_so_many_tables_and_industries() -> None:
    knowledge = Industries(DATA).read(5)
    assert len({row.group for row in knowledge.labelled}) == 5
    assert len(knowledge.items) == 10
    assert {item.id for item in knowledge.items} <= {item.id for item in Industries(DATA).read().items}


def test_a_database_of_ones_own_is_written_about_and_its_comments_are_labelled_data(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "own.duckdb")) as connection:
        connection.execute("CREATE TABLE mine (a INT, b INT); COMMENT ON COLUMN mine.a IS 'said by us'")
    knowledge = Industries(DATA, database=f"duckdb:///{tmp_path / 'own.duckdb'}").read()
    (item,) = [item for item in knowledge.items if isinstance(item, TableItem) and item.write]
    assert item.group == "mine"
    assert [row.comment for row in knowledge.labelled if row.group == "mine"] == ["said by us"]


def test_rows_of_another_file_are_read_for_scoring(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "x.jsonl")
    assert [row.comment for row in Industries(DATA).read_labelled(path)] == ["All bills"]


def test_adventure_works(shared_data: Path) -> None:
    knowledge = Industries(DATA, tables=shared_data / "tables" / "adventureworks.jsonl").read()
    assert len({row.group for row in knowledge.labelled}) == 68
    assert len(knowledge.labelled) > 400
    last = next(row for row in knowledge.labelled if row.id == "Person.Person.LastName")
    assert last.references == ["Last name of the person."]
