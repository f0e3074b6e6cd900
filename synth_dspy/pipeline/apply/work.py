"""The rows of a job: answered, each distinct one once, and then written with their answers beside them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from synth_dspy.core.errors import BudgetReached, SetupError, SynthDspyError, message_of
from synth_dspy.core.executor import Executor, Outcome
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.masking import mask_message
from synth_dspy.core.progress import Bars
from synth_dspy.core.text import counted
from synth_dspy.core.usage import measure
from synth_dspy.pipeline.apply.answers import Answers, row_key
from synth_dspy.pipeline.apply.inputs import Inputs, list_names
from synth_dspy.pipeline.apply.tables import Batch, Table

if TYPE_CHECKING:
    import dspy

    from synth_dspy.pipeline.apply.settings import Job


class _RowError(Exception):
    """A row failed; its cause says why."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


def budget_error(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is that the budget is used up."""
    while error is not None and not isinstance(error, BudgetReached):
        error = error.__cause__
    return error is not None


class Work:
    """The rows of a job while they are answered, and their answers afterwards.

    Attributes:
        run_now: distinct rows that the program was run on.
        truncated: those of them that a reply was cut off for at the token limit.
        read: rows that have an answer.
        failed: rows that were written without one.
        first_error: why the first of them failed.
    """

    def __init__(
        self,
        program: dspy.Module,
        inputs: Inputs,
        table: Table,
        job: Job,
        answers: Answers,
        ledger: Ledger,
        arm: str,
        executor: Executor,
    ) -> None:
        self.executor = executor
        self.program, self.inputs, self.table, self.job = program, inputs, table, job
        self.answers, self.ledger, self.arm = answers, ledger, arm
        self.run_now = self.truncated = self.read = self.failed = self._failures = 0
        self._pending: set[bytes] = set()
        self._lock = threading.Lock()
        self._advance: Callable[[int], None] = lambda rows: None
        self._stopped = False
        self.first_error = ""

    def answer(self, bars: Bars) -> None:
        """Run the program on each distinct row that has no answer yet."""
        import dspy

        with bars.bar("rows", self.table.count) as bar:

            def advance(rows: int) -> None:
                with self._lock:
                    bar(rows)

            self._advance = advance
            with dspy.settings.context(trace=None):  # else DSPy keeps the last 10,000 predictions
                self.executor.map(self._run, self._rows(), progress=advance, sink=self._keep)
        self.answers.commit()
        self.ledger.budget.check_refused()

    def joined(self, advance: Callable[[int], None]) -> Iterator[tuple[Batch, Mapping[str, Sequence[Any]]]]:
        """The input with the new columns.

        Raises:
            SetupError: a row has no answer, because the input has changed.
        """
        for batch in self.table.batches():
            keys = [row_key(self.inputs.read(row)) for row in batch.rows]
            found = self.answers.read(list(dict.fromkeys(keys)))
            new: dict[str, list[Any]] = {column: [] for column in (*self.job.outputs.values(), self.job.error_column)}
            for key in keys:
                if key not in found:
                    raise SetupError(
                        f"{self.job.input} changed while its rows were answered: run the same command again, which "
                        "answers the new rows only."
                    )
                outputs, error = found[key]
                for name, column in self.job.outputs.items():
                    new[column].append(None if outputs is None else outputs.get(name))
                new[self.job.error_column].append(error)
                self.failed += error is not None
                self.first_error = self.first_error or error or ""
            advance(len(keys))
            yield batch, new

    def where(self) -> str:
        """Where the job stands."""
        self.answers.commit()
        return f"{self.read:,} of {counted(self.table.count, 'row')} done, {self.run_now:,} of them run now"

    def _rows(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Distinct rows without an answer, until the budget is used up; pulled by one worker at a time."""
        for batch in self.table.batches():
            for row in batch.rows:
                if self._stopped:
                    return
                cells = self.inputs.read(row)
                key = row_key(cells)
                with self._lock:
                    new = key not in self._pending and key not in self.answers
                    if new:
                        self._pending.add(key)
                if new:
                    yield key, cells
                else:
                    self.read += 1
                    self._advance(1)

    def _run(self, item: tuple[bytes, dict[str, Any]]) -> tuple[bytes, dict[str, Any]] | None:
        """The row's outputs; None if it would have exceeded the budget. Rows that are under way then are finished."""
        key, cells = item
        try:
            with self.ledger.unit(station="apply", source=key.hex(), arm=self.arm), measure() as usage:
                prediction = self.program(**self.inputs.convert(cells))
            with self._lock:
                self.truncated += usage.truncated > 0
            return key, {name: self._value(prediction, name) for name in self._fields(prediction)}
        except Exception as error:
            if budget_error(error):
                self._stopped = True
                return None
            raise _RowError(key) from error

    def _fields(self, prediction: Any) -> list[str]:
        names = list(self.job.outputs)
        if missing := [name for name in names if name not in prediction]:
            raise SetupError(
                f"The program's predictions have no {missing[0]!r}: name with --outputs one of "
                f"{list_names(prediction.keys())}."
            )
        return names

    def _value(self, prediction: Any, name: str) -> Any:
        return to_jsonable_python(prediction[name], fallback=str, inf_nan_mode="null")

    def _keep(self, outcome: Outcome[tuple[bytes, dict[str, Any]] | None]) -> None:
        """Keep a row's outcome; runs in one thread.

        Raises:
            SetupError: too many rows failed, one after the other.
        """
        error = outcome.error
        if isinstance(error, _RowError):
            key, cause = error.key, error.__cause__ or error
            kind = "" if isinstance(cause, ValueError | SynthDspyError) else f"{type(cause).__name__}: "
            text = mask_message(f"{kind}{message_of(cause)}")[:1000]
            self.answers.add(key, None, text)
            self._failures += 1
        else:
            done = outcome.unwrap()
            if done is None:
                return
            key, outputs = done
            self.answers.add(key, outputs, None)
            self._failures = 0
        with self._lock:
            self._pending.discard(key)
        self.run_now += 1
        self.read += 1
        if self._failures >= self.job.stop_after:
            raise SetupError(
                f"The last {self._failures} rows failed, one after the other, so the job was stopped (--stop-after); "
                f"the last one with: {text}"
            )
