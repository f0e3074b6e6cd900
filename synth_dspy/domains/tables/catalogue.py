"""A database's catalogue: reads its tables, and sets comments on them.

    with open_catalogue("sqlite:///shop.db") as catalogue:
        tables = catalogue.tables()

DuckDB and SQLite files are opened read-only until something is applied. PostgreSQL needs the optional driver psycopg;
its password comes from PGPASSWORD or ~/.pgpass, never from the URL, which is recorded in runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from synth_dspy.core.database_url import DUCKDB, SCRIPT, file_of, refuse_password
from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Skipped
from synth_dspy.core.masking import mask_message
from synth_dspy.domains.tables.ddl import identifier
from synth_dspy.domains.tables.labelled import read_tables, script_dialect
from synth_dspy.domains.tables.schema import Column, Table

_FORMS = (
    "duckdb:///FILE, sqlite:///FILE (one slash more before an absolute path), postgresql://USER@HOST/DATABASE, or the "
    "path of a script of CREATE TABLEs (.sql)"
)


class Catalogue(Protocol):
    """A database: its dialect (by sqlglot's name), its tables, and a way to run statements on it."""

    @property
    def dialect(self) -> str: ...

    def tables(self, samples: int = 0) -> list[Table]:
        """The user's tables in the order of their names, with `samples` values of each column."""
        ...

    def skipped(self) -> list[Skipped]:
        """The tables that are not among them, with reasons."""
        return []

    def apply(self, statements: Sequence[str]) -> None:
        """Run statements, all or none."""
        ...


def open_catalogue(url: str) -> Catalogue:
    """The catalogue of a database.

    Args:
        url: `duckdb:///file`, `sqlite:///file`, `postgresql://user@host/database`, or the path of a file with a
            known extension (.duckdb, .sqlite, .db, or .sql for a script that creates the tables).

    Raises:
        SetupError: there is no such file, no such kind of database, no driver, or the URL holds a password.
    """
    try:
        refuse_password(url)
    except ValueError as error:
        raise SetupError(f"The database cannot be opened: {error}.") from None
    kind = urlsplit(url).scheme.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        return _Postgres(url)
    database = file_of(url)
    if database is None:
        raise SetupError(f"{mask_message(url)} is not a database that can be read: write {_FORMS}.")
    kind, file = database
    if not file.is_file():
        raise SetupError(f"There is no database file {file}: write {_FORMS}.")
    if kind == SCRIPT:
        return _Script(file)
    return _DuckDB(file) if kind == DUCKDB else _SQLite(file)


@dataclass(frozen=True)
class _Script(Catalogue):
    """A script of `CREATE TABLE` statements in place of a database: it is only read, nothing is applied to it."""

    file: Path

    @property
    def dialect(self) -> str:
        return script_dialect(self.file)

    def tables(self, samples: int = 0) -> list[Table]:
        return read_tables(self.file)

    def apply(self, statements: Sequence[str]) -> None:
        raise SetupError(f"{self.file} is a script, not a database: leave out --apply and run the written statements.")


@dataclass(frozen=True)
class _SQLite(Catalogue):
    file: Path
    dialect: str = "sqlite"

    def tables(self, samples: int = 0) -> list[Table]:
        return self._read(samples)[0]

    def skipped(self) -> list[Skipped]:
        return self._read(0)[1]

    def _read(self, samples: int) -> tuple[list[Table], list[Skipped]]:
        """The tables that a person made, and those that are not read."""
        import sqlite3

        tables, skipped = [], []
        try:
            with closing(sqlite3.connect(f"{self.file.as_uri()}?mode=ro", uri=True)) as connection:
                # A virtual table keeps its data in shadow tables (sqlite.org/vtab.html), which SQLite 3.37 can tell.
                kinds = {name: kind for _, name, kind, *_ in connection.execute("PRAGMA main.table_list")}
                sql = "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY 1"
                for name, made in connection.execute(sql).fetchall():
                    if name.startswith("sqlite_") or kinds.get(name) == "shadow":
                        skipped.append(Skipped(name, "is an internal table of SQLite"))
                        continue
                    try:
                        tables.append(self._table(connection, name, made, samples))
                    except sqlite3.OperationalError as error:  # such as a virtual table's missing module
                        skipped.append(Skipped(name, f"cannot be read ({error})"))
        except sqlite3.DatabaseError as error:
            raise SetupError(f"{self.file} cannot be read as an SQLite database: {error}.") from error
        return tables, skipped

    def _table(self, connection: Any, name: str, made: str, samples: int) -> Table:
        foreign: dict[str, str] = {}
        for _, _, table, here, there, *_ in connection.execute("SELECT * FROM pragma_foreign_key_list(?)", (name,)):
            foreign[here] = f"{table}.{there}" if there else table
        columns = []
        for _, column, kind, not_null, _, key in connection.execute("SELECT * FROM pragma_table_info(?)", (name,)):
            values = _samples(connection, "", name, column, samples, self.dialect)
            columns.append(Column(column, kind, not (not_null or key), bool(key), foreign.get(column, ""), "", values))
        # A virtual table's statement needs its module, wherever the script is read.
        definition = made if made.startswith("CREATE TABLE") else ""
        return Table(name, tuple(columns), "", "", self.dialect, definition=definition)

    def apply(self, statements: Sequence[str]) -> None:
        raise SetupError(
            "SQLite has no comments, so nothing can be applied to it: leave out --apply and keep the documentation "
            "beside the database."
        )


@dataclass(frozen=True)
class _DuckDB(Catalogue):
    file: Path
    dialect: str = "duckdb"

    def tables(self, samples: int = 0) -> list[Table]:
        with closing(self._open(read_only=True)) as connection:
            of = "WHERE database_name = current_database() AND NOT internal"
            tables = connection.execute(
                f"SELECT schema_name, table_name, comment FROM duckdb_tables() {of} ORDER BY 1, 2"
            ).fetchall()
            columns = connection.execute(
                "SELECT schema_name, table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
                f"{of} ORDER BY 1, 2, column_index"
            ).fetchall()
            constraints = connection.execute(
                "SELECT schema_name, table_name, constraint_type, constraint_column_names, referenced_table, "
                "referenced_column_names FROM duckdb_constraints() WHERE database_name = current_database()"
            ).fetchall()
            keys = {
                (schema, table, name) for schema, table, kind, names, *_ in constraints if kind == "PRIMARY KEY"
                for name in names
            }  # fmt: skip
            foreign = {
                (schema, table, here): f"{target}.{there}"
                for schema, table, kind, names, target, theirs in constraints if kind == "FOREIGN KEY"
                for here, there in zip(names, theirs, strict=False)
            }  # fmt: skip
            rows = [
                (
                    (schema, table),
                    Column(
                        name, kind, nullable and (schema, table, name) not in keys, (schema, table, name) in keys,
                        foreign.get((schema, table, name), ""), comment or "",
                        _samples(connection, schema, table, name, samples, self.dialect),
                    ),
                )
                for schema, table, name, kind, nullable, comment in columns
            ]  # fmt: skip
        return _assembled(tables, rows, self.dialect)

    def apply(self, statements: Sequence[str]) -> None:
        import duckdb

        with closing(self._open(read_only=False)) as connection:
            connection.begin()
            try:
                for statement in statements:
                    connection.execute(statement)
                connection.commit()
            except duckdb.Error as error:
                connection.rollback()
                raise SetupError(f"{self.file} refused a comment, and none was set: {error}.") from error

    def _open(self, read_only: bool) -> Any:
        import duckdb

        try:
            return duckdb.connect(str(self.file), read_only=read_only)
        except duckdb.Error as error:
            raise SetupError(f"{self.file} cannot be opened as a DuckDB database: {error}.") from error


@dataclass(frozen=True)
class _Postgres(Catalogue):
    url: str
    dialect: str = "postgres"

    def tables(self, samples: int = 0) -> list[Table]:
        with self._open() as connection:
            # Partitions are documented by their parent; tables that the role cannot see are left out.
            tables = connection.execute(
                "SELECT n.nspname, c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition "
                "AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1, 2"
            ).fetchall()
            rows = connection.execute(
                "SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, "
                "col_description(c.oid, a.attnum), "
                "EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p' "
                "AND a.attnum = ANY (k.conkey)), "
                "(SELECT f.relname || '.' || t.attname FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid "
                "JOIN pg_attribute t ON t.attrelid = f.oid "
                "AND t.attnum = k.confkey[array_position(k.conkey, a.attnum)] "
                "WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY (k.conkey) ORDER BY k.oid LIMIT 1) "
                "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
                "JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1, 2, a.attnum"
            ).fetchall()
            wanted = {(schema, table) for schema, table, _ in tables}
            columns = [
                (
                    (schema, table),
                    Column(
                        name, kind, not required, key, references or "", comment or "",
                        _samples(connection, schema, table, name, samples, self.dialect),
                    ),
                )
                for schema, table, name, kind, required, comment, key, references in rows if (schema, table) in wanted
            ]  # fmt: skip
        return _assembled(tables, columns, self.dialect)

    def apply(self, statements: Sequence[str]) -> None:
        with self._open() as connection:
            import psycopg

            try:
                for statement in statements:
                    connection.execute(statement)
            except psycopg.Error as error:
                raise SetupError(f"PostgreSQL refused a comment, and none was set: {error}.") from error

    def _open(self) -> Any:
        """A connection whose block is one transaction: committed at its end, rolled back on an error."""
        try:
            import psycopg
        except ImportError as error:
            raise SetupError("Reading PostgreSQL needs its driver: pip install 'psycopg[binary]'.") from error
        try:
            return psycopg.connect(self.url)
        except psycopg.OperationalError as error:
            why = mask_message(" ".join(str(error).split()).rstrip("."))
            raise SetupError(f"PostgreSQL cannot be reached at {mask_message(self.url)}: {why}.") from error


def _assembled(
    rows: Iterable[tuple[str, str, str | None]],
    columns: Iterable[tuple[tuple[str, str], Column]],
    dialect: str,
) -> list[Table]:
    """Tables from rows of tables and of columns."""
    of: defaultdict[tuple[str, str], list[Column]] = defaultdict(list)
    for where, column in columns:
        of[where].append(column)
    return [Table(table, tuple(of[schema, table]), schema, comment or "", dialect) for schema, table, comment in rows]


def _samples(connection: Any, schema: str, table: str, column: str, count: int, dialect: str) -> tuple[str, ...]:
    """Some values of a column as short text; none by default, as values may be personal."""
    if not count:
        return ()
    name, full = identifier(column, dialect=dialect), identifier(schema, table, dialect=dialect)
    sql = f"SELECT DISTINCT {name} FROM {full} WHERE {name} IS NOT NULL LIMIT {int(count)}"
    values = sorted(str(value)[:30] for (value,) in connection.execute(sql).fetchall())
    return tuple(" ".join(value.split()) for value in values)
