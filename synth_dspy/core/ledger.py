"""The ledger: every model call of a run is made once, whatever happens to the process.

One SQLite file per run holds a row for each answered model call, under the SHA-256 of everything that determines the
answer. The row is committed before the caller sees the answer. A run that was killed is therefore simply started again:
it repeats its steps in the same order, and every call that was answered before is a cache hit. Calls that had not been
made may get other answers than in an uninterrupted run (see `models/embedded/pipeline.py`). Failed calls are counted
but leave no answer, so they are retried. The ledger also keeps the filters' verdicts on candidates, and the outcomes of
executed functions, which may depend on the clock.

`with ledger.unit(...)` attributes calls to a stage ("station"), a source and an arm; `with ledger.measure() as usage`
sums their cost. Both travel in DSPy's settings and so reach the threads and tasks that DSPy starts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shlex
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from synth_dspy.core import snapshots
from synth_dspy.core.answer_count import AnswerCount
from synth_dspy.core.budget import Budget
from synth_dspy.core.claims import AbandonedError, Claims
from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import in_event_loop
from synth_dspy.core.invocation import command
from synth_dspy.core.io.locks import lock_run
from synth_dspy.core.knowledge import Verdict
from synth_dspy.core.ledger_file import (
    DamageError,
    ForeignError,
    check,
    connect,
    insert,
    is_damage,
    prepare,
    require_current,
    verified,
    write_row,
)
from synth_dspy.core.ledger_totals import grouped_totals, require_columns
from synth_dspy.core.masking import mask_message
from synth_dspy.core.usage import ModelCall, Unit, Usage, measure, unit

__all__ = ["Ledger", "call_key", "connect", "current_ledger", "insert"]

SNAPSHOT_S = 120.0
"""Minimum number of seconds between two snapshots."""
_SNAPSHOT_SHARE = 0.01
"""Maximum share of the time that is spent on snapshots of a large ledger."""
_ERRORS = (DamageError, sqlite3.DatabaseError)

log = logging.getLogger("synth_dspy.core.ledger")


class Ledger:
    """The calls and verdicts of one run. Thread-safe; one process writes at a time.

    The whole file is checked when it is opened, and every row when it is read. After a file error nothing more is read
    or written, since results computed without the missing answers would be wrong.

    Args:
        path: the file, created if missing.
        resume_command: the command that resumes the run, for error messages.
        read_only: open a run that may be open elsewhere.
        budget: limits of money and time.

    Raises:
        SetupError: another process has this run open, or the file cannot be written or is damaged.
    """

    def __init__(
        self, path: Path, *, resume_command: str = "", read_only: bool = False, budget: Budget | None = None
    ) -> None:
        self.path = Path(path)
        self.resume_command = resume_command
        self.read_only = read_only
        self.budget = budget or Budget()
        self._lock = threading.RLock()
        self._snapshotting = threading.Lock()
        self._claims: Claims[ModelCall] = Claims()
        self._on_close: list[Callable[[], None]] = []
        self._failure: SetupError | None = None
        self._closed = threading.Event()
        self._changes = self._snapshot_changes = 0
        self.lock_fd = -1 if read_only else lock_run(self.path)
        try:
            with self._file():
                self._open()
        except BaseException:
            self._unlock()
            raise
        self.budget.start(self._spent(), resume_command)
        if not read_only:
            threading.Thread(target=self._keep_snapshots, name="synth-dspy-snapshots", daemon=True).start()

    def _open(self) -> None:
        if not self.read_only:
            snapshots.finish_restoring(self.path)
            wal = self.path.with_name(self.path.name + "-wal")
            if wal.exists() and wal.stat().st_size and not (self.path.exists() and self.path.stat().st_size):
                raise DamageError("it is empty, and the log of its last pages is not")  # which SQLite would remove
        existed = self.path.exists()
        self._db = connect(self.path, read_only=self.read_only)
        try:
            if self.read_only:
                require_current(self._db)
            else:
                prepare(self._db)
            self._keys = check(self._db)
            self._models = [model for (model,) in self._db.execute("select distinct model from calls")]
            if missing := 0 if self.read_only else snapshots.lost_rows(self.path, self._db):
                raise DamageError(f"it lacks {missing} rows that its snapshot has")
            if not self.read_only:
                self._count = self._open_count(existed)
        except BaseException:
            self._db.close()
            raise
        self._changes += bool(self._keys) and not snapshots.snapshot_of(self.path).exists()

    def _spent(self) -> dict[tuple[str, str], tuple[int, float]]:
        """By role and model, the number of calls with a price and their cost in US dollars."""
        sql = "select role, model, count(cost_usd), coalesce(sum(cost_usd), 0.0) from calls group by role, model"
        with self._file():
            return {(role, model): (calls, cost) for role, model, calls, cost in self._db.execute(sql)}

    def _open_count(self, existed: bool) -> AnswerCount:
        """Open the answer count; if the ledger `existed` before, check that no answers are missing."""
        count = AnswerCount(self.path)
        try:
            recorded_count, up_since = count.read()
            if existed and (missing := recorded_count - len(self._keys)) > 0:
                if up_since:
                    raise DamageError(f"it lacks {missing} answers that had been written")
                log.warning(
                    "%s: %d answers were lost when the machine went down; they are asked again", self.path, missing
                )
            count.write(len(self._keys))
        except BaseException:
            count.close()
            raise
        return count

    def lookup(self, key: str) -> ModelCall | None:
        """The answer under `key`, or None.

        Raises:
            SetupError: the ledger is damaged.
        """
        if hash(key) not in self._keys:  # complete: no other process writes
            return None
        with self._file():
            row = self._db.execute("select * from calls where key = ?", (key,)).fetchone()
            call = None if row is None else _call(verified(row))
            if call is None or call.key != key:
                raise DamageError(f"the answer {key[:16]!r} is missing")
        return call

    def has_answer(self, key: str) -> bool:
        """Whether there is an answer under `key`."""
        return hash(key) in self._keys

    def models(self) -> list[str]:
        """The model strings of the calls that were answered before this ledger was opened."""
        return self._models

    def record(self, call: ModelCall) -> None:
        """Commit an answer. If the key has one already, that stays."""
        with self._file():
            insert(self._db, call)
            self.mark_recorded(call.key)

    def mark_recorded(self, key: str) -> None:
        """Take note that the answer under `key` has been committed, here or by the run's HTTP process."""
        self._keys.add(hash(key))
        self._changes += 1
        with suppress(OSError):  # a full disk: a count that is too low does no harm
            self._count.write(len(self._keys))

    def answer(self, key: str, ask: Callable[[], ModelCall]) -> tuple[ModelCall, bool]:
        """The answer under `key`, and whether it was a cache hit; on a miss `ask` makes and records the call.

        A caller that wants a key for which a call is in flight waits for its answer.
        """
        while True:
            outcome, claimed = self._claims.claim(key)
            if claimed:
                break
            if in_event_loop():  # blocking would stop the task that makes the call, so make it twice
                return ask(), False
            try:
                return outcome.result(), True
            except AbandonedError:
                continue
        with self._claims.releasing(key, outcome):
            stored = self.lookup(key)
            call = stored or ask()
            outcome.set_result(call)
        return call, stored is not None

    async def aanswer(self, key: str, ask: Callable[[], Awaitable[ModelCall]]) -> tuple[ModelCall, bool]:
        """`answer` for an event loop."""
        while True:
            outcome, claimed = self._claims.claim(key)
            if claimed:
                break
            try:
                return await asyncio.wrap_future(outcome), True
            except AbandonedError:
                continue
        with self._claims.releasing(key, outcome):
            stored = self.lookup(key)
            call = stored or await ask()
            outcome.set_result(call)
        return call, stored is not None

    def record_failure(self, call: ModelCall, error: BaseException) -> None:
        """Count a call that failed for good. It has no answer, so it will be retried."""
        what = (call.key, type(error).__name__, mask_message(str(error)[:8000])[:2000], call.model, call.role)
        unit = (call.unit.station, call.unit.source, call.unit.arm)
        self._write("failures", [*what, *unit, call.attempts, time.time()])

    def record_verdict(self, candidate: str, filter: str, verdict: Verdict) -> None:
        """Store the verdict of `filter` on the candidate with the id `candidate`; idempotent."""
        self._write("verdicts", [candidate, filter, verdict.keep, verdict.score, verdict.why], replace=True)

    def _write(self, table: str, values: Sequence[Any], *, replace: bool = False) -> None:
        with self._file():
            write_row(self._db, table, values, replace=replace)
            self._changes += 1

    def verdicts(self) -> dict[tuple[str, str], Verdict]:
        """All verdicts by (candidate id, filter name)."""
        with self._file():
            rows = [verified(row) for row in self._db.execute("select * from verdicts order by candidate, filter")]
        return {(candidate, name): Verdict(bool(keep), score, why) for candidate, name, keep, score, why in rows}

    def execute_once(self, key: str, execute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The outcome of an execution under `key`, as JSON values; `execute` is called if there is none yet.

        The first outcome under a key stays: two callers that execute concurrently get the same one.
        """
        text = self._outcome(key)
        if text is None:
            result = json.dumps(execute(), ensure_ascii=False)
            with self._lock:
                self._write("executions", [key, result, time.time()])
                text = self._outcome(key)
        assert text is not None
        outcome: dict[str, Any] = json.loads(text)
        return outcome

    def _outcome(self, key: str) -> str | None:
        with self._file():
            row = self._db.execute("select * from executions where key = ?", (key,)).fetchone()
            return None if row is None else str(verified(row)[1])

    def totals(self, *by: str) -> list[dict[str, Any]]:
        """Calls, failures, tokens, seconds and cost, grouped by any of `role`, `station`, `arm`, `source`, `model`.

        A call that several arms share is counted once, for the arm that made it first. `cost_usd` is None in a group
        where the price of any call is unknown.
        """
        with self._file():
            return grouped_totals(self._db, by)

    def calls(self, **where: str) -> list[ModelCall]:
        """Answered calls in the order of their answers; `where` selects by `role`, `station`, `arm`, ..."""
        require_columns(where)
        condition = " where " + " and ".join(f"{name} = ?" for name in where) if where else ""
        with self._file():
            rows = self._db.execute(f"select * from calls{condition} order by created, key", tuple(where.values()))
            return [_call(verified(row)) for row in rows]

    def unit(
        self, *, station: str | None = None, source: str | None = None, arm: str | None = None
    ) -> AbstractContextManager[None]:
        """A context that attributes calls to this stage ("station"), source or arm; None keeps the outer value.

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
        self._on_close.append(callback)

    def snapshot(self) -> None:
        """Check the whole ledger and copy it, unless nothing was written since the last snapshot.

        If the copy cannot be written, a warning is logged.

        Raises:
            SetupError: the ledger is damaged, or has failed before.
        """
        if self._failure is not None:
            raise self._failure
        with self._snapshotting:
            changes = self._changes
            if changes == self._snapshot_changes or self.read_only:
                return
            try:
                snapshots.write_snapshot(self.path)
                self._snapshot_changes = changes
            except (OSError, *_ERRORS) as error:
                if is_damage(error):
                    raise self.fail(error) from error
                log.warning("no snapshot of the ledger could be written: %s", error)

    def _keep_snapshots(self) -> None:
        wait = SNAPSHOT_S
        while not self._closed.wait(wait):
            began = time.monotonic()
            with suppress(SetupError):  # the next call raises it
                self.snapshot()
            wait = max(SNAPSHOT_S, (time.monotonic() - began) / _SNAPSHOT_SHARE)

    @contextmanager
    def _file(self) -> Iterator[None]:
        """Hold the file's lock, and turn its errors into `SetupError`s."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                yield
            except (DamageError, ForeignError, OSError, sqlite3.OperationalError) as error:
                raise self.fail(error) from error
            except sqlite3.DatabaseError as error:
                if is_damage(error):
                    raise self.fail(error) from error
                raise

    def fail(self, error: Exception | str) -> SetupError:
        """Stop using the file, and explain why.

        Args:
            error: SQLite's, from this process or the run's HTTP process.
        """
        go_on = f"go on with `{self.resume_command}`" if self.resume_command else "resume the run"
        why = f"{error}".rstrip(".")
        if isinstance(error, ForeignError):
            text = f"{self.path} cannot be used as a ledger: {why}."
        elif is_damage(error):
            snapshot = snapshots.describe_snapshot(self.path)
            restore = f"{command('restore', anywhere=True)} {shlex.quote(str(self.path.parent.resolve()))}"
            text = (
                f"The ledger {self.path} is damaged ({why}), so nothing more was read from it and no result was "
                f"written. {f'Its last good snapshot is {snapshot}' if snapshot else 'It has no good snapshot'}: "
                f"`{restore}` recovers all intact answers; then {go_on}."
            )
        else:
            remedy = f"free some space or check the permissions, then {go_on}"
            text = f"Could not write the ledger {self.path}: {why}; {remedy}."
        self._failure = self._failure or SetupError(text)
        return self._failure

    def stop(self, error: SetupError) -> None:
        """Stop using the file: every later use raises `error`."""
        self._failure = self._failure or error

    def close(self) -> None:
        """Write a snapshot, close the file, and release the run's lock."""
        while self._on_close:
            self._on_close.pop()()
        self._closed.set()
        try:
            self.snapshot()
        except SetupError as error:
            log.warning("no snapshot of the ledger was written: %s", error)
        with self._lock:
            self._db.close()
            if not self.read_only:
                self._count.close()
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

    ledger: Ledger | None = dspy.settings.get("ledger", None)
    return ledger


def call_key(determinants: Mapping[str, Any]) -> str:
    """The SHA-256 of everything that determines an answer, given as JSON values."""
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _call(row: Sequence[Any]) -> ModelCall:
    """The `ModelCall` of a row of the table `calls`."""
    key, status, response, model, role, station, source, arm, *figures, _created = row
    return ModelCall(key, response, model, role, Unit(station, source, arm), status, *figures)
