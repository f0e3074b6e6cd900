"""Databases read, documented and, if told so, written."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest
from chinook import COLUMNS, TABLES, make_chinook

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.tables.catalogue import open_catalogue
from synth_dspy.domains.tables.documentation import coverage
from synth_dspy.domains.tables.schema import WHOLE
from synth_dspy.domains.tables.source import Industries
from synth_dspy.pipeline.database import document_database

SAMPLE = Path(__file__).resolve().parents[3] / "data" / "industries"


class Saying:
    """A program that says of a column what it was asked, and remembers every question."""

    def __init__(self, silent: str = "") -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.silent = silent

    def __call__(self, table: str, column: str) -> SimpleNamespace:
        self.asked[table.partition(" ")[0], column] += 1
        return SimpleNamespace(answer="" if column.split()[0] == self.silent else f"It's {column} | of {table[:20]}")


@pytest.fixture
def chinook(tmp_path: Path) -> Path:
    return make_chinook(tmp_path / "chinook.db")


def duck(path: Path) -> Path:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA sales")
        connection.execute('CREATE TABLE sales.customer (id INT PRIMARY KEY, "full name" VARCHAR NOT NULL)')
        connection.execute("CREATE TABLE kind (code VARCHAR PRIMARY KEY, says VARCHAR)")
        connection.execute("CREATE TABLE thing (no INT PRIMARY KEY, kind VARCHAR REFERENCES kind (code))")
        connection.execute("COMMENT ON COLUMN kind.code IS 'kept as it is'")
        connection.execute("INSERT INTO kind VALUES ('A', 'first'), ('B', NULL)")
    return path


def test_a_chinook_sized_sqlite_database_is_documented_whole(chinook: Path, tmp_path: Path) -> None:
    before = chinook.read_bytes()
    program = Saying()
    done = document_database(program, f"sqlite:///{chinook}", tmp_path / "docs.md")
    assert len(done.docs) == TABLES
    assert sum(program.asked.values()) == len(program.asked) == TABLES + COLUMNS
    assert all(coverage(doc.table, [c.column for c in doc.comments]).whole for doc in done.docs)
    assert chinook.read_bytes() == before
    track = next(doc.table for doc in done.docs if doc.table.name == "Track")
    assert track.columns[0].key
    assert track.column("AlbumId").references == "Album.AlbumId"
    assert (tmp_path / "docs.md").read_text().count("\n## ") == TABLES - 1


def test_sqlite_has_no_comments_says_so_and_gets_a_script_to_read(chinook: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="SQLite has no comments"):
        document_database(Saying(), f"sqlite:///{chinook}", tmp_path / "x.sql", apply=True)
    done = document_database(Saying(), f"sqlite:///{chinook}", tmp_path / "x.sql")
    assert "the annotated schema, for reading" in str(done)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript((tmp_path / "x.sql").read_text())
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone() == (TABLES,)


def test_tables_that_sqlite_keeps_for_itself_are_skipped_and_named(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE bill (no INTEGER PRIMARY KEY AUTOINCREMENT)")
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (said)")
        connection.execute("PRAGMA writable_schema = 1")
        foreign = "CREATE VIRTUAL TABLE shapes USING nowhere (x)"
        connection.execute("INSERT INTO sqlite_master VALUES ('table', 'shapes', 'shapes', 0, ?)", (foreign,))
        connection.commit()
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    assert [table.name for table in open_catalogue(url).tables()] == ["bill", "words"]
    skipped = {skip.path: skip.why for skip in open_catalogue(url).skipped()}
    assert skipped.pop("shapes") == "cannot be read (no such module: nowhere)"
    assert skipped == dict.fromkeys(
        ["sqlite_sequence", *(f"words_{part}" for part in ("config", "content", "data", "docsize", "idx"))],
        "is an internal table of SQLite",
    )
    program = Saying()
    done = document_database(program, url, tmp_path / "docs.md")
    assert {table for table, _ in program.asked} == {"bill", "words"}
    assert "7 skipped: shapes cannot be read (no such module: nowhere); sqlite_sequence is an internal" in str(done)
    read = Industries(SAMPLE, database=url).read()
    assert {skip.path for skip in read.skipped} == {"shapes", *skipped}


def test_duckdb_is_left_alone_until_apply_and_read_back_after(tmp_path: Path) -> None:
    file = duck(tmp_path / "shop.duckdb")
    url, out = f"duckdb:///{file}", tmp_path / "comments.sql"
    done = document_database(Saying(), url, out)
    assert done.applied == 0
    assert sum(bool(c.comment) for table in open_catalogue(url).tables() for c in table.columns) == 1
    with pytest.raises(SetupError, match="--force"):
        document_database(Saying(), url, out, apply=True)
    done = document_database(Saying(), url, out, apply=True, force=True)
    assert done.applied == 3 + 6 - 1
    tables = {table.qualified: table for table in open_catalogue(url).tables()}
    assert tables["kind"].column("code").comment == "kept as it is"
    assert tables["kind"].column("says").comment.startswith("It's says varchar |")
    assert tables["sales.customer"].column("full name").comment.startswith("It's full name varchar | of sales.customer")
    assert all(table.comment for table in tables.values())
    again = Saying()
    assert document_database(again, url, out, apply=True, force=True).applied == 0
    assert not again.asked
    assert document_database(Saying(), url, out, again=True, force=True).docs[0].new


def test_the_written_script_sets_the_same_comments_as_apply(tmp_path: Path) -> None:
    one, other = duck(tmp_path / "one.duckdb"), duck(tmp_path / "other.duckdb")
    document_database(Saying(), f"duckdb:///{one}", tmp_path / "x.sql", apply=True)
    with duckdb.connect(str(other)) as connection:
        connection.execute((tmp_path / "x.sql").read_text())
    assert open_catalogue(str(one)).tables() == open_catalogue(str(other)).tables()


def test_keys_and_foreign_keys_of_duckdb(tmp_path: Path) -> None:
    tables = {t.qualified: t for t in open_catalogue(str(duck(tmp_path / "a.duckdb"))).tables(samples=2)}
    assert tables["thing"].column("kind").references == "kind.code"
    assert tables["thing"].column("no").key
    assert not tables["sales.customer"].column("full name").nullable
    assert tables["kind"].column("code").samples == ("A", "B")
    assert tables["kind"].column("says").samples == ("first",)


def test_what_the_program_says_nothing_of_is_counted_and_the_rest_goes_on(chinook: Path, tmp_path: Path) -> None:
    done = document_database(Saying(silent="Title"), str(chinook), tmp_path / "docs.md")
    missing = [
        (doc.table.name, name)
        for doc in done.docs
        for name in coverage(doc.table, [c.column for c in doc.comments]).missing
    ]
    assert missing == [("Album", "Title"), ("Employee", "Title")]
    assert "2 columns and tables without a comment" in str(done)


def test_a_table_of_500_columns_is_done_in_pieces_of_one_size(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "wide.duckdb")) as connection:
        connection.execute(f"CREATE TABLE wide ({', '.join(f'measure_{n} DOUBLE' for n in range(500))})")
    longest = 0

    def program(table: str, column: str) -> SimpleNamespace:
        nonlocal longest
        longest = max(longest, len(table))
        assert column == "(the whole table)" or column.split()[0] in table
        return SimpleNamespace(answer=f"value of {column.split()[0]}")

    done = document_database(program, str(tmp_path / "wide.duckdb"), tmp_path / "wide.yml")
    assert coverage(done.docs[0].table, [c.column for c in done.docs[0].comments]).whole
    assert len(done.docs[0].comments) == 501
    assert longest < 250


def test_a_script_stands_in_for_a_database(tmp_path: Path) -> None:
    script = tmp_path / "shop.snowflake.sql"
    script.write_text("CREATE TABLE item (sku VARCHAR COMMENT 'kept', Price INT, \"List\" INT) COMMENT = 'Things';")
    done = document_database(Saying(), str(script), tmp_path / "x.sql")
    statements = (tmp_path / "x.sql").read_text().splitlines()
    # Names without quotes stay without: Snowflake folds them to capitals.
    assert [line.partition(" IS ")[0] for line in statements] == [
        "COMMENT ON COLUMN item.Price",
        'COMMENT ON COLUMN item."List"',
    ]
    assert "2 comments written, 2 kept" in str(done)
    program = Saying()
    with pytest.raises(SetupError, match="not a database"):
        document_database(program, str(script), tmp_path / "y.sql", apply=True)
    assert not program.asked


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///none.db", "There is no database file"),
        ("sqlite:////nowhere/x.db", "There is no database file /nowhere/x.db:"),
        ("mysql://root@localhost/x.db", "is not a database that can be read"),
        ("mysql://root@localhost/x", "is not a database that can be read"),
        ("notes.txt", "is not a database that can be read"),
        ("postgresql://me:hunter2@localhost/x", "PGPASSWORD"),
        ("postgresql://me@localhost/x?password=hunter2", "PGPASSWORD"),
    ],
)
def test_what_cannot_be_opened_is_said_in_a_sentence(url: str, says: str) -> None:
    with pytest.raises(SetupError, match=says) as caught:
        open_catalogue(url)
    assert "hunter2" not in str(caught.value)


def test_three_slashes_stand_before_an_absolute_path_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = duck(tmp_path / "shop.duckdb")
    monkeypatch.chdir(tmp_path)
    for url in ("duckdb:///shop.duckdb", f"duckdb:///{file}", f"duckdb://{file}", str(file), "shop.duckdb"):
        assert len(open_catalogue(url).tables()) == 3, url


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SetupError, match="pip install 'psycopg"):
        open_catalogue("postgresql://me@localhost/x").tables()


@pytest.mark.parametrize(("name", "kind"), [("x.db", "SQLite"), ("x.duckdb", "DuckDB")])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_text("this is a text, and quite long enough to be read as a header of a database file" * 99)
    with pytest.raises(SetupError, match=kind):
        open_catalogue(str(tmp_path / name)).tables()


@pytest.mark.parametrize(
    ("out", "only", "says"),
    [("x.docx", (), "extension"), ("none/x.md", (), "does not exist"), ("x.md", ("Tracks",), "no table 'Tracks'")],
)
def test_what_is_asked_wrongly_is_found_before_any_call(
    chinook: Path, tmp_path: Path, out: str, only: tuple[str, ...], says: str
) -> None:
    program = Saying()
    with pytest.raises(SetupError, match=says):
        document_database(program, str(chinook), tmp_path / out, only=only)
    assert not program.asked


def test_only_the_tables_that_are_named(chinook: Path, tmp_path: Path) -> None:
    done = document_database(Saying(), str(chinook), tmp_path / "x.md", only=("Genre",))
    assert [doc.table.name for doc in done.docs] == ["Genre"]
    assert done.docs[0].of(WHOLE)
