"""Applies a saved program to every row of a table.

The input is read twice: first to answer its rows, each distinct one once, then to write it with the answers beside it.
Progress lies in a folder of the job, named after the program and the input: the same command goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from synth_dspy.core.budget import Budget
from synth_dspy.core.errors import BudgetReached, SetupError, SynthDspyError, message_of
from synth_dspy.core.executor import Executor, Outcome
from synth_dspy.core.io.files import limit_access, replacing
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.masking import mask_message
from synth_dspy.core.progress import Bars
from synth_dspy.core.text import as_text, counted
from synth_dspy.core.usage import Usage, measure
from synth_dspy.core.validation import as_clause, suggest
from synth_dspy.evaluation.spending import Spending, spending_lines, spending_of
from synth_dspy.pipeline.apply.answers import Answers, row_key
from synth_dspy.pipeline.apply.tables import Batch, Table, open_table
from synth_dspy.pipeline.apply.writers import check_output, write
from synth_dspy.pipeline.plan import Rate, Step, describe, measured_rate
from synth_dspy.pipeline.trust import Caller

if TYPE_CHECKING:
    import dspy
    import pyarrow as pa

    from synth_dspy.pipeline.saved_files import Saved

APPLIED = "applied"
REPORT = "report.json"
log = logging.getLogger("synth_dspy.pipeline.apply")


@dataclass(frozen=True, slots=True)
class Job:
    """What is applied to what.

    Attributes:
        input: a path, or the URL of a database.
        output: file or Delta table to write; its extension decides the format.
        query: for a database.
        columns: the program's inputs and the columns that they are read from, where the names differ.
        outputs: fields of the program's predictions, and the columns that they are written to.
        error_column: the column for the error of a row that failed.
        concurrency: rows under way at once.
        stop_after: failures in a row after which the job stops.
        force: replace an existing output.
    """

    input: str
    output: Path
    query: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=lambda: {"answer": "answer"})
    error_column: str = "error"
    concurrency: int = 64
    stop_after: int = 100
    force: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done; `str` gives the summary that the command prints."""

    output: Path
    rows: int
    distinct: int
    run_now: int
    failed: int
    first_error: str
    seconds: float
    calls: int
    from_ledger: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    spent: Sequence[Spending] = ()

    def __str__(self) -> str:
        lines = [
            f"{counted(self.rows, 'row')}: {self.distinct:,} distinct, {self.run_now:,} of them run now "
            f"in {self.seconds:,.0f} s ({self.run_now / max(self.seconds, 1e-9):,.0f}/s), {self.failed:,} failed"
        ]
        if self.failed:
            lines.append(f"the first failure: {self.first_error}; the same command with --force tries them again")
        return "\n".join([*lines, *spending_lines(self.spent), str(self.output)])


class _RowError(Exception):
    """A row failed; its cause says why."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key


def apply_program(
    saved: Saved,
    job: Job,
    *,
    caller: Caller,
    budget: Budget | None = None,
    bars: Bars | None = None,
    price: tuple[float, float] | None = None,
    command: str = "",
) -> Applied:
    """Answer every row of the input and write the output.

    Args:
        saved: the program.
        job: the input, the output, and how they are connected.
        caller: what a program that somebody else made is allowed.
        budget: limits of money and time.
        bars: shows plan and progress.
        price: US dollars per million input and output tokens of the student, in place of the list price.
        command: what resumes this job.

    Raises:
        SetupError: something is wrong with the program, the input or the output, or too many rows failed in a row. What
            can be checked in advance is checked before the first call.
        BudgetReached: the budget is used up.
    """
    from synth_dspy.pipeline.rescore import attach_ledger
    from synth_dspy.pipeline.resources import open_executor
    from synth_dspy.pipeline.saved import rebuild

    bars = bars or Bars()
    writer = check_output(job.output, force=job.force)
    folder = job_folder(saved, job)
    saved = _with_settings(saved, job, price)
    limit_access(share=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"The job's folder {folder} cannot be made: {error.strerror or error}.") from error
    with Ledger(folder / LEDGER, resume_command=command, budget=budget) as ledger:
        with bars.status("reading the input"):
            table = open_table(job.input, job.query, folder / "input")
        program = rebuild(saved, caller)
        attach_ledger(program, ledger)
        inputs = Inputs.of(program, table, job)
        _check_outputs(table, job)
        answers = Answers(folder / f"answers-{row_key(dict.fromkeys(job.outputs, 1)).hex()[:8]}.sqlite")
        try:
            answers.forget_failures()
            bars.say(_plan(saved, program, max(0, table.count - answers.count()), job, folder))
            executor = open_executor(saved.config, spare=True)
            work = _Work(program, inputs, table, job, answers, ledger, saved.arm, executor)
            began = time.perf_counter()
            try:
                with measure() as usage:
                    work.answer(bars)
            except BudgetReached as reached:
                raise BudgetReached(f"{work.where()}. {reached}") from reached
            except SetupError as error:
                raise SetupError(f"{error}\n{work.where()}; to go on, run the same command again.") from error
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"stopped: {work.where()}; to go on, run the same command again") from None
            ledger.snapshot()  # raises, before the output is written, if the ledger is damaged
            seconds = time.perf_counter() - began
            with bars.bar("writing", table.count) as bar:
                kinds = {column: _arrow_type(answers.kinds(name)) for name, column in job.outputs.items()}
                kinds[job.error_column] = _arrow_type(set())
                write(writer, job.output, table.columns, kinds, work.joined(bar))
            applied = work.summary(usage, seconds, spending_of(ledger))
        finally:
            answers.close()
        with replacing(folder / REPORT) as partial:
            partial.write_text(json.dumps({**asdict(applied), "output": str(job.output)}, indent=2) + "\n")
    for copy in folder.glob("input.*"):  # a later job asks the database anew
        copy.unlink()
    return applied


def budget_error(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is that the budget is used up."""
    while error is not None and not isinstance(error, BudgetReached):
        error = error.__cause__
    return error is not None


def _check_outputs(table: Table, job: Job) -> None:
    """Refuse new columns that the input has already.

    Raises:
        SetupError: one of them does.
    """
    for name, column in (*job.outputs.items(), ("", job.error_column)):
        if column in table.columns:
            remedy = f"--outputs {name}=OTHER_NAME" if name else "--error-column OTHER_NAME"
            raise SetupError(
                f"{job.input} has a column {column!r} already: write the program's to another with {remedy}."
            )


def _plan(saved: Saved, program: dspy.Module, rows: int, job: Job, folder: Path) -> str:
    """What the other rows will cost at most, by the calls of the job so far, or else of the program's own run."""
    rate = measured_rate(folder, station="apply") or measured_rate(saved.run, station="evaluation", arm=saved.arm)
    lm = next((predictor.lm for predictor in program.predictors() if predictor.lm is not None), None)
    price_of = getattr(getattr(getattr(lm, "engine", None), "inner", None), "price_of", None)
    price = None if price_of is None or lm is None else price_of(lm.model)
    return describe([Step(f"{rows:,} rows, if all are distinct", rows, rate or Rate(), price, job.concurrency)])


def _arrow_type(kinds: set[str]) -> pa.DataType:
    """The type of a new column by the JSON types of its values; text unless they are all truth values or numbers."""
    import pyarrow as pa

    if kinds and kinds <= {"true", "false"}:
        return pa.bool_()
    if kinds == {"integer"}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {"integer", "real"} else pa.string()


def _list(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:20])


def job_folder(saved: Saved, job: Job) -> Path:
    """The folder of a job's progress: the same for the same program, input, query and columns."""
    where = job.input if "://" in job.input else str(Path(job.input).expanduser().resolve())
    about = {key: value for key, value in saved.about.items() if key != "signature"}
    what = [about, saved.state, where, job.query, sorted(job.columns.items())]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    name = "".join(c if c.isalnum() else "-" for c in Path(where).stem)[:40]
    return (
        saved.workspace / saved.config.runs.expanduser() / str(saved.about["task"]) / APPLIED / f"{name}-{digest[:12]}"
    )


def _with_settings(saved: Saved, job: Job, price: tuple[float, float] | None) -> Saved:
    """The saved program with the job's concurrency and price."""
    config = saved.config.model_copy(update={"concurrency": job.concurrency})
    if price is not None:
        student = {**config.models.options.get("student", {}), "price": list(price)}
        models = config.models.model_copy(update={"options": {**config.models.options, "student": student}})
        config = config.model_copy(update={"models": models})
    return replace(saved, config=config)


@dataclass(frozen=True)
class Inputs:
    """A program's inputs, and the columns that they are read from.

    Attributes:
        columns: by the inputs' names.
        required: inputs that must have a value.
        types: of the inputs that are not texts.
    """

    columns: Mapping[str, str]
    required: frozenset[str]
    types: Mapping[str, TypeAdapter[Any]]

    @classmethod
    def of(cls, program: dspy.Module, table: Table, job: Job) -> Inputs:
        """Map the columns of a table to the inputs of a program.

        Raises:
            SetupError: an input has no column, or `--columns` names one that does not exist.
        """
        from synth_dspy.pipeline.program_inputs import declared_inputs

        types, required = declared_inputs(program)
        there = list(table.columns)
        for name, column in job.columns.items():
            if name not in types:
                raise SetupError(
                    f"The program has no input {name!r} (--columns {name}={column}): it takes {_list(types)}."
                )
            if column not in table.columns:
                raise SetupError(f"{job.input} has no column {column!r}: {suggest(column, there)}")
        columns = {name: job.columns.get(name, name) for name in types if job.columns.get(name, name) in table.columns}
        if missing := sorted(required - columns.keys()):
            raise SetupError(
                f"{job.input} has no column {missing[0]!r}, which the program takes: name the column with --columns "
                f"{missing[0]}=COLUMN; there are {_list(there)}."
            )
        adapters = {name: TypeAdapter(types[name]) for name in columns if types[name] not in (str, Any)}
        return cls(columns, required, adapters)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The cells of a row, as they are."""
        return {name: row.get(column) for name, column in self.columns.items()}

    def convert(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Cells as the program takes them; empty cells of inputs that have a default are left out.

        Raises:
            ValueError: one is empty or has a wrong type; names its column.
        """
        values = {}
        for name, cell in cells.items():
            if cell is None or cell == "":
                if name in self.required:
                    raise ValueError(f"the column {self.columns[name]} is empty")
                continue
            values[name] = self._convert(name, cell)
        return values

    def _convert(self, name: str, cell: Any) -> Any:
        adapter = self.types.get(name)
        if adapter is None:
            return as_text(cell)
        try:
            return adapter.validate_python(cell)
        except ValidationError as error:
            try:
                return adapter.validate_json(cell) if isinstance(cell, str) else adapter.validate_python(as_text(cell))
            except ValidationError:
                why = as_clause(error.errors()[0]["msg"])
                raise ValueError(f"the column {self.columns[name]} is {str(cell)[:100]!r}: {why}") from None


class _Work:
    """The rows of a job while they are answered, and their answers afterwards."""

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
        self.run_now = self.read = self._failures = 0
        self._pending: set[bytes] = set()
        self._lock = threading.Lock()
        self._advance: Callable[[int], None] = lambda rows: None
        self._failed = 0
        self._stopped = False
        self._first_error = ""

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
                self._failed += error is not None
                self._first_error = self._first_error or error or ""
            advance(len(keys))
            yield batch, new

    def where(self) -> str:
        """Where the job stands."""
        self.answers.commit()
        return f"{self.read:,} of {counted(self.table.count, 'row')} done, {self.run_now:,} of them run now"

    def summary(self, usage: Usage, seconds: float, spent: Sequence[Spending]) -> Applied:
        """What was done."""
        return Applied(
            self.job.output,
            self.table.count,
            self.answers.count(),
            self.run_now,
            self._failed,
            self._first_error,
            seconds,
            usage.calls,
            usage.from_ledger,
            usage.input_tokens,
            usage.output_tokens,
            usage.cost_usd,
            spent,
        )

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
            with self.ledger.unit(station="apply", source=key.hex(), arm=self.arm):
                prediction = self.program(**self.inputs.convert(cells))
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
                f"{_list(prediction.keys())}."
            )
        return names

    def _value(self, prediction: Any, name: str) -> Any:
        return to_jsonable_python(prediction[name], fallback=str)

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
