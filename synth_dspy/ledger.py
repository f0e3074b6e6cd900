"""The ledger: every model call of a run is made once, whatever happens to the process.

One SQLite file per run holds a row for each answered model call, under the SHA-256 of everything that determines the
answer. The row is committed before the caller sees the answer, so a run that was killed is simply started again: it
does the same things in the same order, and what was answered before comes from here. Calls that had not been made may
be answered in other words than if the run had not been killed (`lms/pipeline.py` says why). Failed calls leave no
answer (they are made again) but are counted. The filters' verdicts on candidates stand beside the calls, and so do
the outcomes of functions that were executed: these may read the clock.

Who makes a call (station, source, arm) is said by `with ledger.unit(...)`, what a piece of work cost is summed by
`with ledger.measure() as usage`; both reach into DSPy's threads and tasks because they travel in DSPy's settings.
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

from synth_dspy import snapshots
from synth_dspy.accounting import Call, Unit, Usage, measure, unit
from synth_dspy.answer_count import AnswerCount
from synth_dspy.claims import AbandonedError, Claims
from synth_dspy.errors import SetupError
from synth_dspy.executor import in_event_loop
from synth_dspy.invocation import command
from synth_dspy.ledger_file import (
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
from synth_dspy.ledger_totals import grouped_totals, require_columns
from synth_dspy.locks import lock_run
from synth_dspy.masking import mask_message
from synth_dspy.task import Verdict

__all__ = ["Ledger", "call_key", "connect", "current_ledger", "insert"]

SNAPSHOT_S = 120.0
"""Least seconds between two snapshots while calls come in."""
_SNAPSHOT_SHARE = 0.01
"""Most of the time that is spent on snapshots of a large ledger."""
_ERRORS = (DamageError, sqlite3.DatabaseError)

log = logging.getLogger("synth_dspy.ledger")


class Ledger:
    """The calls and verdicts of one run. Safe to use from many threads; one process writes at a time.

    The whole file is checked when it is opened, and every row when it is read. After an error of the file nothing is
    read or written any more: what a run makes of missing answers would be false.

    Args:
        path: the file, made if it is not there.
        again: the command that goes on with the run, for errors.
        read_only: for a look at a run that may be open elsewhere.

    Raises:
        SetupError: another process has this run open, the file cannot be written, or it is damaged.
    """

    def __init__(self, path: Path, *, again: str = "", read_only: bool = False) -> None:
        self.path = Path(path)
        self.again = again
        self.read_only = read_only
        self._lock = threading.RLock()
        self._snapshotting = threading.Lock()
        self._asking: Claims[Call] = Claims()
        self._closing: list[Callable[[], None]] = []
        self._failure: SetupError | None = None
        self._closed = threading.Event()
        self._changes = self._kept_changes = 0
        self.lock_fd = -1 if read_only else lock_run(self.path)
        try:
            with self._file():
                self._open()
        except BaseException:
            self._unlock()
            raise
        if not read_only:
            threading.Thread(target=self._keep_snapshots, name="synth-dspy-snapshots", daemon=True).start()

    def _open(self) -> None:
        if not self.read_only:
            snapshots.finish_restoring(self.path)
            wal = self.path.with_name(self.path.name + "-wal")
            if wal.exists() and wal.stat().st_size and not (self.path.exists() and self.path.stat().st_size):
                raise DamageError("it is empty, and the log of its last pages is not")  # which SQLite would remove
        there = self.path.exists()
        self._db = connect(self.path, read_only=self.read_only)
        try:
            if self.read_only:
                require_current(self._db)
            else:
                prepare(self._db)
            self._known = check(self._db)
            self._models = [model for (model,) in self._db.execute("select distinct model from calls")]
            if lost := 0 if self.read_only else snapshots.lost_rows(self.path, self._db):
                raise DamageError(f"it lacks {lost} rows that its snapshot has")
            if not self.read_only:
                self._count = self._counted(there)
        except BaseException:
            self._db.close()
            raise
        self._changes += bool(self._known) and not snapshots.snapshot_of(self.path).exists()

    def _counted(self, there: bool) -> AnswerCount:
        """The note of how many answers there are, compared with those that there were if the ledger was `there`."""
        count = AnswerCount(self.path)
        try:
            noted, up_since = count.noted()
            if there and (lost := noted - len(self._known)) > 0:
                if up_since:
                    raise DamageError(f"it lacks {lost} answers that had been written")
                log.warning(
                    "%s: %d answers were lost when the machine went down; they are asked again", self.path, lost
                )
            count.note(len(self._known))
        except BaseException:
            count.close()
            raise
        return count

    def lookup(self, key: str) -> Call | None:
        """The answer under `key`, or None.

        Raises:
            SetupError: the ledger is damaged.
        """
        if key not in self._known:  # what this process answered it knows, and no other process writes
            return None
        with self._file():
            row = self._db.execute("select * from calls where key = ?", (key,)).fetchone()
            call = None if row is None else _call(verified(row))
            if call is None or call.key != key:
                raise DamageError(f"the answer {key[:16]!r} is not found where it was written")
        return call

    def knows(self, key: str) -> bool:
        """Whether there is an answer under `key`."""
        return key in self._known

    def models(self) -> list[str]:
        """The model strings of the calls that were answered before this ledger was opened."""
        return self._models

    def record(self, call: Call) -> None:
        """Commit an answer. The first answer under a key stays."""
        with self._file():
            insert(self._db, call)
            self.recorded(call.key)

    def recorded(self, key: str) -> None:
        """Say that the run's HTTP process has committed the answer under `key`."""
        self._known.add(key)
        self._changes += 1
        with suppress(OSError):  # no room: one that says less is no harm
            self._count.note(len(self._known))

    def answer(self, key: str, ask: Callable[[], Call]) -> tuple[Call, bool]:
        """The answer under `key`, and whether it was known; `ask` makes and records the call if it was not.

        Whoever wants a key that is being asked waits for that answer.
        """
        while True:
            asked, mine = self._asking.claim(key)
            if mine:
                break
            if in_event_loop():  # waiting would stop the task that is asking: ask a second time
                return ask(), False
            try:
                return asked.result(), True
            except AbandonedError:
                continue
        with self._asking.releasing(key, asked):
            known = self.lookup(key)
            call = known or ask()
            asked.set_result(call)
        return call, known is not None

    async def aanswer(self, key: str, ask: Callable[[], Awaitable[Call]]) -> tuple[Call, bool]:
        """`answer` for an event loop."""
        while True:
            asked, mine = self._asking.claim(key)
            if mine:
                break
            try:
                return await asyncio.wrap_future(asked), True
            except AbandonedError:
                continue
        with self._asking.releasing(key, asked):
            known = self.lookup(key)
            call = known or await ask()
            asked.set_result(call)
        return call, known is not None

    def record_failure(self, call: Call, error: BaseException) -> None:
        """Note that `call` failed for good; it has no answer, so it will be made again."""
        what = (call.key, type(error).__name__, mask_message(str(error)[:8000])[:2000], call.model, call.role)
        unit = (call.unit.station, call.unit.source, call.unit.arm)
        self._write("failures", [*what, *unit, call.attempts, time.time()])

    def record_verdict(self, candidate: str, filter: str, verdict: Verdict) -> None:
        """Keep what `filter` said of the candidate with the id `candidate`; saying it again changes nothing."""
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

    def executed(self, key: str, execute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The outcome of an execution under `key`; `execute` makes one that has none, as JSON values.

        The first outcome under a key stays: of two callers that execute at the same time, both get the same.
        """
        text = self._outcome(key)
        if text is None:
            made = json.dumps(execute(), ensure_ascii=False)
            with self._lock:
                self._write("executions", [key, made, time.time()])
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

        A call that several arms share was made, and is counted, once: with the one that made it first. `cost_usd` is
        None in a group where the price of any call is unknown.
        """
        with self._file():
            return grouped_totals(self._db, by)

    def calls(self, **where: str) -> list[Call]:
        """Answered calls in the order they were answered, those whose `role`, `station`, `arm`... equal `where`."""
        require_columns(where)
        condition = " where " + " and ".join(f"{name} = ?" for name in where) if where else ""
        with self._file():
            rows = self._db.execute(f"select * from calls{condition} order by created, key", tuple(where.values()))
            return [_call(verified(row)) for row in rows]

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

    def snapshot(self) -> None:
        """Check the whole ledger and keep a copy of it; nothing is done if nothing was written since the last one.

        A copy that cannot be written is a warning in the log.

        Raises:
            SetupError: the ledger is damaged, or an error of its file has been met before.
        """
        if self._failure is not None:
            raise self._failure
        with self._snapshotting:
            changes = self._changes
            if changes == self._kept_changes or self.read_only:
                return
            try:
                snapshots.write_snapshot(self.path)
                self._kept_changes = changes
            except (OSError, *_ERRORS) as error:
                if is_damage(error):
                    raise self.failed(error) from error
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
        """Hold the lock of the file, and tell its errors."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                yield
            except (DamageError, ForeignError, OSError, sqlite3.OperationalError) as error:
                raise self.failed(error) from error
            except sqlite3.DatabaseError as error:
                if is_damage(error):
                    raise self.failed(error) from error
                raise

    def failed(self, error: Exception | str) -> SetupError:
        """Use the file no more, and say why: what SQLite says of it, here or in the run's HTTP process."""
        go_on = f"go on with `{self.again}`" if self.again else "resume the run"
        why = f"{error}".rstrip(".")
        if isinstance(error, ForeignError):
            text = f"{self.path} cannot be used as a ledger: {why}."
        elif is_damage(error):
            snapshot = snapshots.describe_snapshot(self.path)
            restore = f"{command('restore', anywhere=True)} {shlex.quote(str(self.path.parent.resolve()))}"
            text = (
                f"The ledger {self.path} is damaged ({why}), so nothing more was read from it and no result was "
                f"written. {f'Its last good snapshot is {snapshot}' if snapshot else 'It has no good snapshot'}: "
                f"`{restore}` {'puts together' if snapshot else 'saves'} all answers that are whole; then {go_on}."
            )
        else:
            text = f"Could not write the ledger {self.path}: {why}; free some space or rights there, then {go_on}."
        self._failure = self._failure or SetupError(text)
        return self._failure

    def close(self) -> None:
        """Keep a snapshot, close the file, and let another process open the run."""
        while self._closing:
            self._closing.pop()()
        self._closed.set()
        try:
            self.snapshot()
        except SetupError as error:
            log.warning("no snapshot of the ledger was kept: %s", error)
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

    found: Ledger | None = dspy.settings.get("ledger", None)
    return found


def call_key(determinants: Mapping[str, Any]) -> str:
    """The SHA-256 of everything that determines an answer, given as JSON values."""
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _call(row: Sequence[Any]) -> Call:
    """The call of a row of `calls`."""
    key, status, response, model, role, station, source, arm, *figures, _created = row
    return Call(key, response, model, role, Unit(station, source, arm), status, *figures)
