"""Snapshots of a ledger, and the recovery of a damaged one.

    ledger.sqlite            the ledger (with -wal and -shm while a run has it open)
    ledger.snapshot.sqlite   its last good snapshot
    ledger.count             the number of its answers, see `answer_count`
    ledger.damaged-1.sqlite  a damaged ledger that `restore` has replaced

A snapshot replaces the previous one only after every row has been checked against its checksum, so a damaged ledger
never replaces a good snapshot. Restoring keeps every readable row with a matching checksum, from the snapshot and from
the damaged file: an answer is lost only if its own bytes are damaged.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from synth_dspy.core.answer_count import count_file
from synth_dspy.core.io.files import sync, sync_folder
from synth_dspy.core.ledger_file import (
    TABLES,
    DamageError,
    check,
    checksum,
    connect,
    count_rows,
    is_sound,
    prepare,
    require_current,
)

_RESTORED = ".restored"
_NEAR = 1000
"""Number of rows after an unreadable one that are tried one by one, and then in growing steps."""


def snapshot_of(ledger: Path) -> Path:
    """The path of a ledger's snapshot."""
    return ledger.with_name(f"{ledger.stem}.snapshot{ledger.suffix}")


def write_snapshot(ledger: Path) -> None:
    """Copy a ledger that may be open and in use, check the copy, and replace the last snapshot with it.

    Raises:
        DamageError: the ledger is damaged; the last snapshot stays.
        sqlite3.Error: the ledger cannot be read, or the snapshot cannot be written.
        OSError: as `sqlite3.Error`.
    """
    target = snapshot_of(ledger)
    partial = target.with_name(f".{target.name}.partial")  # safe: the run's lock is held
    partial.unlink(missing_ok=True)
    try:
        with closing(connect(ledger, read_only=True)) as db:
            db.execute("vacuum into ?", (str(partial.absolute()),))
        with closing(connect(partial, read_only=True)) as db:
            check(db)
        _publish(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def lost_rows(ledger: Path, db: sqlite3.Connection) -> int:
    """How many rows the ledger `db` has lost since its snapshot; 0 if there is no good snapshot."""
    snapshot = snapshot_of(ledger)
    if not snapshot.is_file():
        return 0
    try:
        with closing(connect(snapshot, read_only=True)) as snapshot_db:
            require_current(snapshot_db)
            kept = count_rows(snapshot_db)
    except Exception:
        return 0
    return sum(max(0, kept[table] - count) for table, count in count_rows(db).items())


def describe_snapshot(ledger: Path) -> str | None:
    """A phrase about a ledger's last good snapshot; None if there is none."""
    snapshot = snapshot_of(ledger)
    try:
        with closing(connect(snapshot, read_only=True)) as db:
            require_current(db)
            answers = len(check(db))
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.stat().st_mtime))
    except Exception:  # whatever is wrong with it, it is not usable
        return None
    return f"{snapshot} (of {written}, {answers} answers)"


def restore(ledger: Path) -> tuple[int, int, Path | None]:
    """Replace a damaged ledger, whose lock the caller holds, with one recovered from it and its snapshot.

    Returns:
        How many answers the new ledger has, how many of them were not in the snapshot, and where the damaged file is
        kept (None if the ledger file was missing).

    Raises:
        DamageError: no row can be read, neither of the ledger nor of a snapshot.
        sqlite3.Error: the new file cannot be written.
        OSError: as `sqlite3.Error`.
    """
    finish_restoring(ledger)
    partial = ledger.with_name(f".{ledger.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(partial, isolation_level=None)) as db:
            prepare(db)
            db.execute("begin")
            from_snapshot = _take(db, snapshot_of(ledger))
            answers = from_snapshot + sum(_take(db, path) for path in (ledger, *_damaged(ledger)))
            db.execute("commit")
            check(db)
            if not any(count_rows(db).values()):
                raise DamageError("no row of it can be read, and there is no snapshot")
        kept = _keep_damaged(ledger)
        _publish(partial, ledger.with_name(ledger.name + _RESTORED))
    finally:
        partial.unlink(missing_ok=True)
    finish_restoring(ledger)
    return answers, answers - from_snapshot, kept


def finish_restoring(ledger: Path) -> None:
    """Complete a `restore` that was killed before its last step."""
    restored = ledger.with_name(ledger.name + _RESTORED)
    if restored.is_file():
        # SQLite would replay the damaged file's log into the new one, and the recorded count is too high for it.
        for leftover in (*_companions(ledger), count_file(ledger)):
            leftover.unlink(missing_ok=True)
        restored.replace(ledger)
        sync_folder(ledger.parent)


def _take(db: sqlite3.Connection, source: Path) -> int:
    """Insert the intact rows of a file, and return how many answers were new.

    Failures have no key, so they are taken from the first file that has any.
    """
    if not source.is_file() or not source.stat().st_size:
        return 0
    before = count_rows(db)
    for table, columns in TABLES.items():
        if table == "failures" and before[table]:
            continue
        marks = ", ".join("?" * (len(columns) + 1))
        for row in _readable(source, table):
            db.execute(f"insert or ignore into {table} values ({marks})", row)
    return int(count_rows(db)["calls"] - before["calls"])


def _readable(source: Path, table: str) -> Iterator[tuple[Any, ...]]:
    """The readable rows of a table with their checksums; unreadable pages are skipped."""
    last = unreadable = 0
    with closing(connect(source, read_only=True)) as db:
        while unreadable < 2 * _NEAR:
            try:
                rows = db.execute(f"select rowid, * from {table} not indexed where rowid > ? order by rowid", (last,))
                for rowid, *row in rows:
                    last, unreadable = rowid, 0
                    if is_sound(table, row):
                        values = row[: len(TABLES[table])]
                        yield *values, checksum(values)
                return
            except sqlite3.DatabaseError:
                last += max(1, unreadable - _NEAR)
                unreadable += 1


def _damaged(ledger: Path) -> list[Path]:
    return sorted(ledger.parent.glob(f"{ledger.stem}.damaged-*{ledger.suffix}"))


def _keep_damaged(ledger: Path) -> Path | None:
    """Keep a damaged ledger and its write-ahead log under a second name."""
    if not ledger.is_file():
        return None
    kept = ledger.with_name(f"{ledger.stem}.damaged-{len(_damaged(ledger)) + 1}{ledger.suffix}")
    for source in (ledger, *_companions(ledger)):
        name = kept.with_name(kept.name + source.name.removeprefix(ledger.name))
        if source.name.endswith("-shm") or not source.is_file():
            continue
        try:
            os.link(source, name)
        except OSError:  # a file system without links
            shutil.copy2(source, name)
    return kept


def _companions(ledger: Path) -> list[Path]:
    return [ledger.with_name(ledger.name + suffix) for suffix in ("-wal", "-shm")]


def _publish(partial: Path, target: Path) -> None:
    """Replace a file atomically, even in case of a power failure."""
    sync(partial)
    partial.replace(target)
    sync_folder(target.parent)
