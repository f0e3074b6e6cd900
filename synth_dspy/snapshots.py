"""Snapshots of a ledger: whole, checked, one kept; and what a damaged ledger is restored from.

    ledger.sqlite            the ledger (with -wal and -shm while a run has it open)
    ledger.snapshot.sqlite   its last good snapshot
    ledger.count             how many answers it has, see `answer_count`
    ledger.damaged-1.sqlite  what `restore` has moved out of the way

A snapshot takes the place of the one before it only after every row of it was compared with its checksum, so a damaged
ledger never takes the place of a good snapshot. Restoring keeps every row that can still be read and matches its
checksum, from the snapshot and from the damaged file: an answer is lost only where its own bytes are.
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

from synth_dspy.answer_count import count_of
from synth_dspy.files import sync_folder
from synth_dspy.ledger_file import (
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
"""So many rows after one that cannot be read are tried one by one, then as many again in growing steps."""


def snapshot_of(ledger: Path) -> Path:
    """Where a ledger's snapshot lies."""
    return ledger.with_name(f"{ledger.stem}.snapshot{ledger.suffix}")


def write_snapshot(ledger: Path) -> None:
    """Copy a ledger that may be open and being written, check the copy, and let it take the last snapshot's place.

    Raises:
        DamageError: the ledger is damaged; the last snapshot stays.
        sqlite3.Error: the ledger cannot be read, or the snapshot cannot be written.
        OSError: as `sqlite3.Error`.
    """
    target = snapshot_of(ledger)
    partial = target.with_name(f".{target.name}.partial")  # the run's lock is held: nobody else writes it
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
    """How many rows a ledger's snapshot has that the ledger `db` has no more; a damaged snapshot has none."""
    snapshot = snapshot_of(ledger)
    if not snapshot.is_file():
        return 0
    try:
        with closing(connect(snapshot, read_only=True)) as older:
            require_current(older)
            kept = count_rows(older)
    except Exception:
        return 0
    return sum(max(0, kept[table] - count) for table, count in count_rows(db).items())


def describe_snapshot(ledger: Path) -> str | None:
    """A phrase about a ledger's last good snapshot; None where there is none."""
    snapshot = snapshot_of(ledger)
    try:
        with closing(connect(snapshot, read_only=True)) as db:
            require_current(db)
            answers = len(check(db))
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.stat().st_mtime))
    except Exception:  # whatever is wrong with it, there is no good one
        return None
    return f"{snapshot} (of {written}, {answers} answers)"


def restore(ledger: Path) -> tuple[int, int, Path | None]:
    """Put a sound ledger in the place of a damaged one, whose lock the caller holds.

    Returns:
        How many answers the new one has, how many of them the snapshot did not have, and where the damaged file is
        kept; None where there was none left.

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
    """Do the last step of a `restore` that was killed before it."""
    restored = ledger.with_name(ledger.name + _RESTORED)
    if restored.is_file():
        # SQLite would write the damaged file's last pages into the new one, which has fewer answers than were noted.
        for leftover in (*_companions(ledger), count_of(ledger)):
            leftover.unlink(missing_ok=True)
        restored.replace(ledger)
        sync_folder(ledger.parent)


def _take(db: sqlite3.Connection, source: Path) -> int:
    """Insert what can be read of a file and matches its checksum; how many answers are new.

    Of failures, which have no key, the first file that has some gives all.
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
    """The rows of a table that can be read, checksums included; where a page cannot, the reading goes on behind it."""
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
    """Give a damaged ledger and its log of pages a second name, under which they stay."""
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
    """Let a finished file take its place, so that a loss of power finds the old or the new one."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    sync_folder(target.parent)
