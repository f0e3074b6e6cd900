"""The answers of a job by their rows' inputs, in an SQLite file beside the job's ledger.

The ledger guarantees that no answered call is made again. This file makes a resumed job fast: a row that is in it is
skipped without running the program. It is written behind the ledger, a batch at a time, so that after a kill the last
rows run once more, on the ledger's answers. So do all, once the documents or the code have changed from which their
answers were made.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COMMIT_S = 0.5
"""Seconds between two commits."""


def row_key(inputs: Mapping[str, Any]) -> bytes:
    """What identifies rows with the same inputs: 16 bytes of their SHA-256."""
    text = json.dumps(inputs, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


class Answers:
    """Thread-safe. A row has either its program's outputs or an error.

    Args:
        path: the file, created if missing.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.execute(
            "create table if not exists answers (key blob primary key, outputs text, error text) without rowid"
        )
        self._db.execute("create table if not exists source (hash text)")
        self._lock = threading.Lock()
        self._committed = time.monotonic()

    def __contains__(self, key: bytes) -> bool:
        with self._lock:
            return self._db.execute("select 1 from answers where key = ?", (key,)).fetchone() is not None

    def add(self, key: bytes, outputs: Mapping[str, Any] | None, error: str | None) -> None:
        """Keep the outputs (JSON values) of a row, or its error."""
        text = None if outputs is None else json.dumps(outputs, ensure_ascii=False)
        with self._lock:
            if not self._db.in_transaction:
                self._db.execute("begin")
            self._db.execute("insert or replace into answers values (?, ?, ?)", (key, text, error))
            if time.monotonic() - self._committed > COMMIT_S:
                self._db.execute("commit")
                self._committed = time.monotonic()

    def commit(self) -> None:
        """Commit what was added."""
        with self._lock:
            if self._db.in_transaction:
                self._db.execute("commit")

    def read(self, keys: Sequence[bytes]) -> dict[bytes, tuple[dict[str, Any] | None, str | None]]:
        """The outputs and the error of each of these keys that is there."""
        marks = ", ".join("?" * len(keys))
        with self._lock:
            rows = self._db.execute(f"select * from answers where key in ({marks})", tuple(keys)).fetchall()
        return {key: (None if outputs is None else json.loads(outputs), error) for key, outputs, error in rows}

    def kinds(self, name: str) -> set[str]:
        """SQLite's names of the JSON types that an output has in these answers."""
        sql = "select distinct json_type(outputs, ?) from answers where outputs is not null"
        with self._lock:
            return {kind for (kind,) in self._db.execute(sql, (f'$."{name}"',)) if kind not in (None, "null")}

    def count(self) -> int:
        """Number of rows."""
        with self._lock:
            return int(self._db.execute("select count(*) from answers").fetchone()[0])

    def forget_others(self, source: str) -> bool:
        """Remove the answers that were made from other documents or code, by their hash; whether there was another."""
        with self._lock:
            before = [hash for (hash,) in self._db.execute("select hash from source")]
            if before != [source]:
                self._db.execute("begin")
                for table in ("answers", "source"):
                    self._db.execute(f"delete from {table}")
                self._db.execute("insert into source values (?)", (source,))
                self._db.execute("commit")
            return bool(before) and before != [source]

    def forget_failures(self) -> None:
        """Remove the rows that failed, so that they are tried again, and outputs with NaN, of earlier versions."""
        with self._lock:
            self._db.execute("delete from answers where error is not null or not json_valid(outputs)")

    def close(self) -> None:
        """Commit, and close the file."""
        self.commit()
        self._db.close()
