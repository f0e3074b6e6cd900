"""Tables that a program is applied to, read in batches: memory does not grow with their length.

CSV, Parquet and JSON arrays are read by DuckDB, Delta tables by `deltalake`, JSON lines line by line. The result of a
database query is first copied into the job's folder: it is read again to write the output, and a job that is resumed
must meet the same rows. A database without a query stands for its own tables and columns, which a program comments on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from synth_dspy.core.database_url import DUCKDB, SCRIPT, file_of, refuse_password
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import replacing
from synth_dspy.core.io.reading import parse_json
from synth_dspy.core.masking import mask_message

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1024
"""Rows that are in memory at once, besides those that are being answered."""
MAX_CELL_MB = 64
"""Longest line of a CSV file, in MB."""
_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_LINES = (".jsonl", ".ndjson")
_PARQUET = (".parquet", ".pq")
_FORMS = (
    "a file (.csv, .tsv, .jsonl, .parquet, .json), a folder of Parquet files, a Delta table, or a database "
    "(duckdb:///FILE, sqlite:///FILE, postgresql://USER@HOST/NAME) with --query"
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows: as dictionaries, and as Arrow has them if they were read by it."""

    rows: Sequence[Mapping[str, Any]]
    arrow: pa.RecordBatch | None = None


class Table(Protocol):
    """Rows that can be read more than once.

    Attributes:
        columns: their names and Arrow types, in order.
        count: number of rows.
    """

    columns: Mapping[str, pa.DataType]
    count: int

    def batches(self) -> Iterator[Batch]:
        """All rows, in order."""
        ...


def open_table(given: str, query: str | None, copy: Path) -> Table:
    """The table that `--input` names.

    Args:
        given: a path, or the URL of a database.
        query: for a database, a SELECT statement or the name of a table.
        copy: where the result of a query is kept, without an extension; an existing one is used.

    Raises:
        SetupError: it cannot be read; says why.
    """
    kind = urlsplit(given).scheme.partition("+")[0]
    database = file_of(given)
    if database is not None or kind in ("postgres", "postgresql"):
        return _database(given, database, query, copy)
    path = Path(given).expanduser()
    if query is not None:
        raise SetupError(f"--query is for databases, and {given} is not one: name {_FORMS}.")
    if not path.exists():
        raise SetupError(f"There is no table {given}: name {_FORMS}.")
    name = path.name.lower()
    if (path / "_delta_log").is_dir():
        return _delta(path)
    if name.endswith(_LINES):
        return JsonLines(path)
    if name.endswith(_CSV):  # as text: 007 is not 7
        return DuckDbTable(
            "read_csv(?, all_varchar = true, header = true, quote = '\"', escape = '\"', strict_mode = true, "
            f"max_line_size = {MAX_CELL_MB * 1_000_000})",
            str(path),
            given,
        )
    if name.endswith(_PARQUET) or path.is_dir():
        files = str(path / "**" / "*.parquet") if path.is_dir() else str(path)
        return DuckDbTable("read_parquet(?)", files, given)
    if name.endswith(".json"):
        return DuckDbTable("read_json(?)", str(path), given)
    raise SetupError(f"{given} has an unknown extension: name {_FORMS}.")


class DuckDbTable:
    """A file, or files, that DuckDB reads.

    Args:
        function: a table function of one argument.
        argument: its argument.
        name: the table's name in messages.

    Raises:
        SetupError: it cannot be read.
    """

    def __init__(self, function: str, argument: str, name: str) -> None:
        self._function, self._argument, self._name = function, argument, name
        reader = self._read("select * from {} limit 0")
        self.columns: Mapping[str, pa.DataType] = dict(zip(reader.schema.names, reader.schema.types, strict=True))
        self.count = int(self._read("select count(*) as n from {}").read_all()["n"][0].as_py())

    def batches(self) -> Iterator[Batch]:
        import duckdb

        try:
            for batch in self._read("select * from {}"):
                yield Batch(batch.to_pylist(), batch)
        except (duckdb.Error, OSError) as error:
            raise self._unreadable(error) from error

    def _read(self, sql: str) -> pa.RecordBatchReader:
        import duckdb

        connection = duckdb.connect(config={"threads": 1, "preserve_insertion_order": True})
        try:
            return connection.sql(sql.format(self._function), params=[self._argument]).to_arrow_reader(BATCH)
        except duckdb.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> SetupError:
        why = str(error).strip().splitlines()[0].rstrip(".")
        return SetupError(f"{self._name} cannot be read as a table ({why}): correct the file.")


class DatasetTable:
    """An Arrow data set, such as a Delta table's files."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.columns: Mapping[str, pa.DataType] = dict(zip(dataset.schema.names, dataset.schema.types, strict=True))
        self.count = int(dataset.count_rows())

    def batches(self) -> Iterator[Batch]:
        for batch in self._dataset.to_batches(batch_size=BATCH, batch_readahead=1, fragment_readahead=1):
            yield Batch(batch.to_pylist(), batch)


class JsonLines:
    """A file of JSON objects, one per line; blank lines are skipped. It is read once in advance, for its columns.

    A column whose values have no common type, or one that Parquet lacks, is text for Arrow; in JSON lines and CSV the
    values stay as they are.

    Raises:
        SetupError: a line is not a JSON object; names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        columns: dict[str, Any] = {}
        for batch in self.batches():
            self.count += len(batch.rows)
            for name in dict.fromkeys(key for row in batch.rows for key in row):
                kind = _infer([row.get(name) for row in batch.rows])
                columns[name] = _common(columns[name], kind) if name in columns else kind
        if not self.count:
            raise SetupError(f"{path} has no rows: write one JSON object per line.")
        import pyarrow as pa

        self.columns: Mapping[str, pa.DataType] = {
            name: pa.string() if pa.types.is_null(kind) or _has_empty(kind) else kind for name, kind in columns.items()
        }

    def batches(self) -> Iterator[Batch]:
        try:
            with self.path.open("rb") as file:
                rows = (self._row(number, line) for number, line in enumerate(file, start=1) if line.strip())
                while part := list(islice(rows, BATCH)):
                    yield Batch(part)
        except OSError as error:
            raise SetupError(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = parse_json(line)
        except ValueError as error:
            raise SetupError(f"{self.path}, line {number} is not JSON ({error}): correct it.") from error
        if not isinstance(row, dict):
            raise SetupError(f"{self.path}, line {number} is not a JSON object: write one object per line.")
        return row


def _infer(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.string()


def _has_empty(kind: Any) -> bool:
    """Whether a type has objects without any key in it."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return _has_empty(kind.value_type)
    return pa.types.is_struct(kind) and (not kind.num_fields or any(_has_empty(each.type) for each in kind))


def _common(one: Any, other: Any) -> Any:
    """The type of a column with values of two types."""
    import pyarrow as pa

    schemas = [pa.schema([("column", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _delta(path: Path) -> Table:
    try:
        import deltalake
    except ImportError as error:
        raise SetupError("Reading a Delta table needs deltalake: pip install 'synth_dspy[delta]'.") from error
    try:
        return DatasetTable(deltalake.DeltaTable(str(path)).to_pyarrow_dataset())
    except Exception as error:  # its Rust core has types of its own
        raise SetupError(f"The Delta table {path} cannot be read: {' '.join(str(error).split())[:300]}.") from error


def _database(url: str, database: tuple[str, Path] | None, query: str | None, copy: Path) -> Table:
    """The result of a query, copied to JSON lines or, with DuckDB's types, to Parquet."""
    try:
        refuse_password(url)
    except ValueError as error:
        raise SetupError(f"The database cannot be opened: {error}.") from None
    kind, file = database or ("postgresql", None)
    if query is None:
        nothing = f"{mask_message(url)} has no tables: name another database with --input, or rows with --query."
        return _copied(copy.with_suffix(".jsonl"), lambda target: _write_lines(target, _catalogue_rows(url), nothing))
    if kind == SCRIPT:
        raise SetupError(f"{url} is a script of CREATE TABLE statements, which have no rows: leave out --query.")
    sql = f"select * from {query}" if re.fullmatch(r'[\w."]+', query) else query
    if file is not None and not file.is_file():
        raise SetupError(f"There is no database file {file}.")
    if kind == DUCKDB:
        return _copied(copy.with_suffix(".parquet"), lambda target: _write_parquet(target, str(file), sql, url))
    read = _sqlite_rows(file, sql) if file is not None else _postgres_rows(url, sql)
    nothing = f"The query {query[:200]!r} gives no rows on {mask_message(url)}: correct --query or --input."
    return _copied(copy.with_suffix(".jsonl"), lambda target: _write_lines(target, read, nothing))


def _copied(target: Path, write: Callable[[Path], None]) -> Table:
    if not target.exists() or not target.stat().st_size:  # earlier versions kept a copy without rows
        with replacing(target) as partial:
            write(partial)
    return JsonLines(target) if target.suffix == ".jsonl" else DuckDbTable("read_parquet(?)", str(target), str(target))


def _write_lines(target: Path, rows: Iterable[Mapping[str, Any]], nothing: str) -> None:
    with target.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")
        if not file.tell():
            raise SetupError(nothing)


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes | memoryview) else str(value)


def _write_parquet(target: Path, file: str, sql: str, url: str) -> None:
    import duckdb
    import pyarrow.parquet as pq

    try:
        with duckdb.connect(file, read_only=True) as connection:
            reader = connection.sql(sql).to_arrow_reader(BATCH)
            _distinct(reader.schema.names)
            with pq.ParquetWriter(target, reader.schema) as writer:
                for batch in reader:
                    writer.write_batch(batch)
    except duckdb.Error as error:
        raise _failed_query(url, error) from error


def _sqlite_rows(file: Path, sql: str) -> Iterator[Mapping[str, Any]]:
    import sqlite3

    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            cursor = connection.execute(sql)
            names = _distinct(column[0] for column in cursor.description or ())
            for row in cursor:
                yield dict(zip(names, row, strict=True))
    except sqlite3.Error as error:
        raise _failed_query(str(file), error) from error


def _postgres_rows(url: str, sql: str) -> Iterator[Mapping[str, Any]]:
    try:
        import psycopg
    except ImportError as error:
        raise SetupError("Reading PostgreSQL needs its driver: pip install 'synth_dspy[postgres]'.") from error
    try:
        # SQLAlchemy's form of the URL names the driver, which libpq does not know.
        with psycopg.connect(re.sub(r"^(\w+)\+\w+://", r"\1://", url)) as connection:
            connection.read_only = True
            with connection.cursor("synth_dspy_apply") as cursor:  # named: rows come in batches
                cursor.execute(sql.encode())
                names = _distinct(column.name for column in cursor.description or ())
                for row in cursor:
                    yield dict(zip(names, row, strict=True))
    except psycopg.Error as error:
        raise _failed_query(url, error) from error


def _distinct(columns: Iterable[str]) -> list[str]:
    """The names of a query's columns.

    Raises:
        SetupError: two of them are the same.
    """
    names = list(columns)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SetupError(
            f"The query gives two columns named {twice!r}: name one of them differently in --query, with AS."
        )
    return names


def _failed_query(url: str, error: Exception) -> SetupError:
    why = mask_message(" ".join(str(error).split()).rstrip("."))[:300]
    return SetupError(f"The query cannot be run on {mask_message(url)} ({why}): correct --query or --input.")


def _catalogue_rows(url: str) -> Iterator[Mapping[str, Any]]:
    """A row for every table and every column of a database, with the inputs of a program that comments on them."""
    from synth_dspy.domains.tables.catalogue import open_catalogue
    from synth_dspy.domains.tables.schema import WHOLE, comment_of, foci, line, view

    for table in open_catalogue(url).tables():
        for focus in foci(table):
            yield {
                "table_name": table.qualified,
                "column_name": None if focus == WHOLE else focus,
                "existing_comment": comment_of(table, focus),
                "table": view(table, focus),
                "column": line(table, focus),
            }
