"""The ledger's file: its tables, the checksum of every row, and integrity checks.

A disk, a copy or a tool can damage a file in ways that SQLite does not detect: a page of zeros in the middle of a long
answer still reads as an answer. So every row carries a checksum of its stored values; a row that does not match it is
reported as damage.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.usage import ModelCall

LEDGER = "ledger.sqlite"
"""The file's name in a run's folder."""
APPLICATION = 0x5344_4C47
"""SQLite's `application_id` of a ledger."""
VERSION = 1
"""SQLite's `user_version`. Version 0 had no checksums and is migrated when it is opened."""

TABLES = {
    "calls": {
        "key": "text primary key",
        **dict.fromkeys(("status", "response", "model", "role", "station", "source", "arm"), "text not null"),
        **dict.fromkeys(("input_tokens", "output_tokens"), "integer"),
        **dict.fromkeys(("latency_s", "cpu_s", "cost_usd"), "real"),
        "attempts": "integer not null",
        "created": "real not null",
    },
    "failures": {
        **dict.fromkeys(
            ("key", "error", "message", "model", "role", "station", "source", "arm"),
            "text not null",
        ),
        "attempts": "integer not null",
        "created": "real not null",
    },
    "verdicts": {
        "candidate": "text not null",
        "filter": "text not null",
        "keep": "integer not null",
        "score": "real not null",
        "why": "text not null",
    },
    "executions": {"key": "text primary key", "outcome": "text not null", "created": "real not null"},
}
"""Columns and their types, by table; the row's checksum is the last column."""
_CONSTRAINTS = {"verdicts": ", primary key (candidate, filter)"}
_STORED = {"text": str, "integer": int, "real": float}
_DAMAGE = (
    "database disk image is malformed",  # what SQLite says
    "file is not a database",
    "malformed database schema",
    "Could not decode to UTF-8",  # what Python's sqlite3 says
)


class DamageError(Exception):
    """The file or a row of it is corrupted."""


class ForeignError(Exception):
    """The file is not a ledger, or has a later version."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a ledger's file without taking the run's lock: for readers, and for the process that does HTTP."""
    if read_only:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    db.execute("pragma cell_size_check = on")
    db.execute("pragma journal_mode = wal")
    # A commit survives the death of the process, even by SIGKILL; only a power failure can lose the last ones.
    db.execute("pragma synchronous = normal")
    return db


def prepare(db: sqlite3.Connection) -> None:
    """Create the tables of a new ledger; add checksums to an old one.

    Raises:
        ForeignError: the file is something else.
    """
    version = _version(db)
    if version == VERSION:
        db.execute(f"pragma user_version = {VERSION}")  # fail before an answer is paid for if the file is read-only
        return
    if version == 0:
        _require_intact(db)
    db.create_function("row_checksum", -1, lambda *values: checksum(values), deterministic=True)
    db.execute("begin immediate")  # atomic, even if the process is killed here
    try:
        for table, columns in TABLES.items():
            if version is None:
                described = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
                constraint = _CONSTRAINTS.get(table, "")
                db.execute(f"create table {table} ({described}, checksum text{constraint})")
            else:
                names = ", ".join(f'"{name}"' for name in columns)
                db.execute(f"alter table {table} add column checksum text")
                db.execute(f"update {table} set checksum = row_checksum({names})")
        db.execute(f"pragma application_id = {APPLICATION}")
        db.execute(f"pragma user_version = {VERSION}")
        db.execute("commit")
    except BaseException:
        if db.in_transaction:
            db.execute("rollback")
        raise


def require_current(db: sqlite3.Connection) -> None:
    """Raise `ForeignError` unless the file is a ledger of this version."""
    if _version(db) != VERSION:
        raise ForeignError("it was written by an earlier version of synth_dspy; resuming its run migrates it")


def _version(db: sqlite3.Connection) -> int | None:
    """The version of a ledger's file; None for an empty file."""
    (application,), (version,) = (
        db.execute(f"pragma {name}").fetchone() for name in ("application_id", "user_version")
    )
    tables = {name for (name,) in db.execute("select name from sqlite_schema where type = 'table'")}
    if not tables and not application and not version:
        return None
    if application == APPLICATION and version > VERSION:
        raise ForeignError("it was written by a later version of synth_dspy: update synth_dspy")
    if db.execute("select 1 from sqlite_schema where type = 'trigger'").fetchone():
        raise ForeignError("it contains triggers, which could change what is written or never end")
    if application == APPLICATION and version == VERSION and tables >= TABLES.keys():
        return VERSION
    if application == version == 0 and all(
        [name for _, name, *_ in db.execute(f"pragma table_info({table})")] == list(columns)
        for table, columns in TABLES.items()
    ):
        return 0
    raise ForeignError("it is an SQLite database, but not a ledger")


def checksum(values: Sequence[Any]) -> str:
    """A hash of a row's stored values, sixteen hexadecimal digits."""
    return hashlib.blake2b("\0".join(map(str, values)).encode(), digest_size=8).hexdigest()


def write_row(db: sqlite3.Connection, table: str, values: Sequence[Any], *, replace: bool = False) -> None:
    """Commit a row with its checksum; without `replace`, an existing row under the same key stays."""
    stored = [_stored(value, kind) for value, kind in zip(values, TABLES[table].values(), strict=True)]
    marks = ", ".join("?" * (len(stored) + 1))
    verb = "replace" if replace else "ignore"
    db.execute(f"insert or {verb} into {table} values ({marks})", (*stored, checksum(stored)))


def copy_answers(source: Path, target: Path, station: str) -> int:
    """Make a new ledger with the answered calls of one stage of another, complete or not at all.

    The filters' verdicts are not copied: they are about candidates by name, whose sources may have changed since.

    Returns:
        How many calls.

    Raises:
        SetupError: the other ledger cannot be read, or is damaged.
    """
    partial = target.with_name(target.name + ".copying")
    partial.unlink(missing_ok=True)
    try:
        with closing(connect(source, read_only=True)) as old, closing(connect(partial)) as new:
            require_current(old)
            prepare(new)
            rows = [verified(row) for row in old.execute("select * from calls where station = ?", (station,))]
            new.execute("begin")
            for row in rows:
                write_row(new, "calls", row)
            new.execute("commit")
    except (sqlite3.DatabaseError, DamageError, ForeignError) as error:
        raise SetupError(
            f"The answers of {source.parent} cannot be used again: {error}; `synth-dspy restore` mends a ledger."
        ) from error
    partial.replace(target)
    return len(rows)


def insert(db: sqlite3.Connection, call: ModelCall) -> None:
    """Commit `call` unless its key has an answer already."""
    values = call.to_dict() | {"created": time.time()}
    values["station"], values["source"], values["arm"] = values.pop("unit")
    write_row(db, "calls", [values[name] for name in TABLES["calls"]])


def verified(row: Sequence[Any]) -> Sequence[Any]:
    """The values of a row (`select *`) without their checksum.

    Raises:
        DamageError: they do not match the checksum.
    """
    *values, expected = row
    if checksum(values) != expected:
        raise DamageError(f"the row {str(values[0])[:16]!r} does not match its checksum")
    return values


def is_sound(table: str, row: Sequence[Any]) -> bool:
    """Whether a row of a damaged file is intact.

    A row of an old ledger, which has no checksum, counts as intact if its JSON can be parsed.
    """
    columns = list(TABLES[table])
    try:
        if len(row) > len(columns):
            verified(row)
        for name, value in zip(columns, row, strict=False):
            if name in ("response", "outcome"):
                json.loads(value)
    except (DamageError, ValueError, TypeError):
        return False
    return True


def check(db: sqlite3.Connection) -> set[int]:
    """Read the whole file and compare every row with its checksum.

    Returns:
        The hashes (of this process) of the answered calls' keys, which take less than half of the keys' memory.

    Raises:
        DamageError: the file or a row is damaged.
    """
    _require_intact(db)
    keys: set[int] = set()
    for table in TABLES:
        for row in db.execute(f"select * from {table} not indexed"):
            values = verified(row)
            if table == "calls":
                keys.add(hash(values[0]))
    return keys


def _require_intact(db: sqlite3.Connection) -> None:
    (problem,) = db.execute("pragma integrity_check(1)").fetchone()
    if problem != "ok":
        raise DamageError(" ".join(problem.split()))


def count_rows(db: sqlite3.Connection) -> dict[str, int]:
    """Rows by table."""
    return {table: db.execute(f"select count(*) from {table}").fetchone()[0] for table in TABLES}


def is_damage(error: Exception | str) -> bool:
    """Whether an error means that the file is damaged, rather than that it cannot be opened or written.

    Judged by SQLite's messages: its error codes are not sent by the HTTP process.
    """
    return isinstance(error, DamageError) or str(error).startswith(_DAMAGE)


def _stored(value: Any, kind: str) -> Any:
    """A value as SQLite returns it after storing it."""
    if value is None or value != value:  # it stores NaN as NULL
        return None
    stored = _STORED[kind.partition(" ")[0]](value)
    return stored + 0.0 if isinstance(stored, float) else stored  # and -0.0 as 0.0
