"""The ledger: every model call of a run is made once, whatever happens to the process.

One SQLite file per run holds a row for each answered model call, under the SHA-256 of everything that determines the
answer. The row is committed before the caller sees the answer, so a run that was killed is simply started again: it
does the same things in the same order, and what was answered before comes from here. Failed calls leave no answer
(they are made again) but are counted. The filters' verdicts on candidates stand beside the calls, and so do the
outcomes of functions that were executed: these may read the clock.

Who makes a call (station, source, arm) is said by `with ledger.unit(...)`, what a piece of work cost is summed by
`with ledger.measure() as usage`; both reach into DSPy's threads and tasks because they travel in DSPy's settings.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from synth_dspy.accounting import Call, Unit, Usage, measure, unit
from synth_dspy.errors import SetupError
from synth_dspy.executor import in_event_loop
from synth_dspy.locks import lock_run
from synth_dspy.masking import mask_message
from synth_dspy.task import Verdict

SCHEMA = """
create table if not exists calls (
    key text primary key, status text not null, response text not null,
    model text not null, role text not null, station text not null, source text not null, arm text not null,
    input_tokens integer, output_tokens integer, latency_s real, cpu_s real, cost_usd real,
    attempts integer not null, created real not null
);
create table if not exists failures (
    key text not null, error text not null, message text not null,
    model text not null, role text not null, station text not null, source text not null, arm text not null,
    attempts integer not null, created real not null
);
create table if not exists verdicts (
    candidate text not null, filter text not null, keep integer not null, score real not null, why text not null,
    primary key (candidate, filter)
);
create table if not exists executions (
    key text primary key, outcome text not null, created real not null
);
"""


class _Abandoned(Exception):
    """Whoever was asking a claimed key gave up without an outcome."""


class Ledger:
    """The calls and verdicts of one run. Safe to use from many threads; one process writes at a time.

    Raises:
        SetupError: another process has this run open, or the file cannot be written.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._lock = threading.RLock()
        self._asking: dict[str, Future[Call]] = {}
        self._closing: list[Callable[[], None]] = []
        self.lock_fd = -1 if read_only else lock_run(self.path)
        try:
            self._db = connect(self.path, read_only=read_only)
            self._known = {key for (key,) in self._db.execute("select key from calls")}
        except sqlite3.Error as error:
            self._unlock()
            raise SetupError(f"Could not open the ledger {self.path}: {error}.") from error

    def lookup(self, key: str) -> Call | None:
        """The answer under `key`, or None."""
        if key not in self._known:  # what this process answered it knows, and no other process writes
            return None
        with self._lock:
            row = self._db.execute(
                "select response, model, role, station, source, arm, status, input_tokens, output_tokens, latency_s,"
                " cpu_s, cost_usd, attempts from calls where key = ?",
                (key,),
            ).fetchone()
        return None if row is None else _call(key, *row)

    def record(self, call: Call) -> None:
        """Commit an answer. The first answer under a key stays."""
        with self._lock, _writing(self.path):
            insert(self._db, call)
            self._known.add(call.key)

    def recorded(self, key: str) -> None:
        """Say that the run's HTTP process has committed the answer under `key`."""
        self._known.add(key)

    def answer(self, key: str, ask: Callable[[], Call]) -> tuple[Call, bool]:
        """The answer under `key`, and whether it was known; `ask` makes and records the call if it was not.

        Whoever wants a key that is being asked waits for that answer.
        """
        while True:
            asked, mine = self._claim(key)
            if mine:
                break
            if in_event_loop():  # waiting would stop the task that is asking: ask a second time
                return ask(), False
            try:
                return asked.result(), True
            except _Abandoned:
                continue
        with self._releasing(key, asked):
            known = self.lookup(key)
            call = known or ask()
            asked.set_result(call)
        return call, known is not None

    async def aanswer(self, key: str, ask: Callable[[], Awaitable[Call]]) -> tuple[Call, bool]:
        """`answer` for an event loop."""
        while True:
            asked, mine = self._claim(key)
            if mine:
                break
            try:
                return await asyncio.wrap_future(asked), True
            except _Abandoned:
                continue
        with self._releasing(key, asked):
            known = self.lookup(key)
            call = known or await ask()
            asked.set_result(call)
        return call, known is not None

    def _claim(self, key: str) -> tuple[Future[Call], bool]:
        with self._lock:
            if key in self._asking:
                return self._asking[key], False
            asked: Future[Call] = Future()
            asked.set_running_or_notify_cancel()  # one who waits and is cancelled must not cancel it for the others
            self._asking[key] = asked
            return asked, True

    @contextmanager
    def _releasing(self, key: str, asked: Future[Call]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            asked.set_exception(error)
            raise
        except BaseException:  # cancelled or interrupted: whoever waits asks for itself
            asked.set_exception(_Abandoned())
            raise
        finally:
            with self._lock:
                del self._asking[key]

    def record_failure(self, call: Call, error: BaseException) -> None:
        """Note that `call` failed for good; it has no answer, so it will be made again."""
        values = (call.key, type(error).__name__, mask_message(str(error)[:8000])[:2000], call.model, call.role)
        unit = (call.unit.station, call.unit.source, call.unit.arm)
        with self._lock, _writing(self.path):
            self._db.execute(
                "insert into failures values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, *unit, call.attempts, time.time()),
            )

    def record_verdict(self, candidate: str, filter: str, verdict: Verdict) -> None:
        """Keep what `filter` said of the candidate with the id `candidate`; saying it again changes nothing."""
        with self._lock, _writing(self.path):
            self._db.execute(
                "insert or replace into verdicts values (?, ?, ?, ?, ?)",
                (candidate, filter, int(verdict.keep), verdict.score, verdict.why),
            )

    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """All verdicts by (candidate id, filter name)."""
        with self._lock:
            rows = self._db.execute("select * from verdicts order by candidate, filter").fetchall()
        return {(candidate, name): Verdict(bool(keep), score, why) for candidate, name, keep, score, why in rows}

    def executed(self, key: str, execute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The outcome of an execution under `key`; `execute` makes one that has none, as JSON values.

        The first outcome under a key stays: of two callers that execute at the same time, both get the same.
        """
        query = "select outcome from executions where key = ?"
        with self._lock:
            row = self._db.execute(query, (key,)).fetchone()
        if row is None:
            outcome = json.dumps(execute(), ensure_ascii=False)
            with self._lock, _writing(self.path):
                self._db.execute("insert or ignore into executions values (?, ?, ?)", (key, outcome, time.time()))
                row = self._db.execute(query, (key,)).fetchone()
        found: dict[str, Any] = json.loads(row[0])
        return found

    def totals(self, *by: str) -> list[dict[str, Any]]:
        """Calls, failures, tokens, seconds and cost, grouped by any of `role`, `station`, `arm`, `source`, `model`.

        A call that several arms share was made, and is counted, once: with the one that made it first. `cost_usd` is
        None in a group where the price of any call is unknown.
        """
        unknown = set(by) - {"role", "station", "arm", "source", "model"}
        if unknown:
            raise ValueError(f"cannot group calls by {sorted(unknown)}")
        columns, group = ", ".join(by), f" group by {', '.join(by)} order by {', '.join(by)}" if by else ""
        comma = ", " if by else ""
        sums = (
            "count(*) as calls, sum(attempts) as attempts, coalesce(sum(input_tokens), 0) as input_tokens,"
            " coalesce(sum(output_tokens), 0) as output_tokens, coalesce(sum(latency_s), 0) as latency_s,"
            " coalesce(sum(cpu_s), 0) as cpu_s,"
            " case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd"
        )
        with self._lock:
            cursor = self._db.execute(f"select {columns}{comma}{sums} from calls{group}")
            names = [column[0] for column in cursor.description]
            groups = [dict(zip(names, row, strict=True)) for row in cursor]
            failed = {
                tuple(row[:-1]): row[-1]
                for row in self._db.execute(f"select {columns}{comma}count(*) from failures{group}")
            }
        for row in groups:
            row["failures"] = failed.pop(tuple(row[name] for name in by), 0)
        empty: dict[str, Any] = dict.fromkeys(("calls", "attempts", "input_tokens", "output_tokens"), 0)
        empty |= {"latency_s": 0.0, "cpu_s": 0.0, "cost_usd": None}
        for key, count in failed.items():
            if count:
                groups.append(dict(zip(by, key, strict=True)) | empty | {"failures": count})
        return groups

    def calls(self, **where: str) -> list[Call]:
        """Answered calls in the order they were answered, those whose `role`, `station`, `arm`... equal `where`."""
        unknown = set(where) - {"role", "station", "arm", "source", "model"}
        if unknown:
            raise ValueError(f"cannot select calls by {sorted(unknown)}")
        condition = " where " + " and ".join(f"{name} = ?" for name in where) if where else ""
        with self._lock:
            rows = self._db.execute(
                "select key, response, model, role, station, source, arm, status, input_tokens, output_tokens,"
                f" latency_s, cpu_s, cost_usd, attempts from calls{condition} order by created, key",
                tuple(where.values()),
            ).fetchall()
        return [_call(*row) for row in rows]

    def unit(
        self, *, station: str | None = None, source: str | None = None, arm: str | None = None
    ) -> AbstractContextManager[None]:
        """A context in which calls are made on behalf of this station, source or arm; what is None stays as it was.

        Inside it, this is the `current_ledger`.
        """
        return self._working(unit(station=station, source=source, arm=arm))

    @contextmanager
    def _working(self, inner: AbstractContextManager[None]) -> Iterator[None]:
        import dspy

        with dspy.settings.context(ledger=self), inner:
            yield

    def measure(self) -> AbstractContextManager[Usage]:
        """A context that yields the `Usage` of the calls made inside it."""
        return measure()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` before the file is closed."""
        self._closing.append(callback)

    def close(self) -> None:
        """Close the file and let another process open the run."""
        while self._closing:
            self._closing.pop()()
        with self._lock:
            self._db.close()
            self._unlock()

    def _unlock(self) -> None:
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def current_ledger() -> Ledger | None:
    """The ledger of the innermost `ledger.unit(...)` around the caller."""
    import dspy

    found: Ledger | None = dspy.settings.get("ledger", None)
    return found


def call_key(determinants: Mapping[str, Any]) -> str:
    """The SHA-256 of everything that determines an answer, given as JSON values."""
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a ledger's file without taking the run's lock: for readers, and for the process that does HTTP."""
    if read_only:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    db.execute("pragma journal_mode = wal")
    # A commit survives the death of the process, SIGKILL too; only a loss of power can take the last ones back.
    db.execute("pragma synchronous = normal")
    db.executescript(SCHEMA)
    return db


def insert(db: sqlite3.Connection, call: Call) -> None:
    """Commit `call` unless its key has an answer already."""
    values = call.to_dict()
    values["station"], values["source"], values["arm"] = values.pop("unit")
    db.execute(
        "insert or ignore into calls (key, status, response, model, role, station, source, arm, input_tokens,"
        " output_tokens, latency_s, cpu_s, cost_usd, attempts, created) values (:key, :status, :response, :model,"
        " :role, :station, :source, :arm, :input_tokens, :output_tokens, :latency_s, :cpu_s, :cost_usd, :attempts,"
        " :created)",
        {**values, "created": time.time()},
    )


def _call(
    key: str, response: str, model: str, role: str, station: str, source: str, arm: str, status: str, *figures: Any
) -> Call:
    return Call(key, response, model, role, Unit(station, source, arm), status, *figures)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise SetupError(
            f"Could not write the ledger {path}: {error}; free some space or rights there, then resume the run."
        ) from error
