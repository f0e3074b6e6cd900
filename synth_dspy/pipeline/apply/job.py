"""Applies a saved program to every row of a table.

The input is read twice: first to answer its rows, each distinct one once, then to write it with the answers beside it.
Progress lies in a folder of the job, named after the program and the input: the same command goes on where it stopped.
If the documents or the task's code have changed by then, every row is run again, and the ledger answers the calls that
are still the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.budget import Budget
from synth_dspy.core.errors import BudgetReached, SetupError
from synth_dspy.core.io.files import limit_access, replacing
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.progress import Bars
from synth_dspy.core.text import counted
from synth_dspy.core.usage import measure
from synth_dspy.core.workspace import task_file
from synth_dspy.evaluation.spending import Spending, spending_lines, spending_of
from synth_dspy.pipeline.apply.answers import Answers, row_key
from synth_dspy.pipeline.apply.inputs import Inputs, check_columns
from synth_dspy.pipeline.apply.settings import Job
from synth_dspy.pipeline.apply.tables import Table, open_table
from synth_dspy.pipeline.apply.work import Work
from synth_dspy.pipeline.apply.writers import check_output, write
from synth_dspy.pipeline.plan import Rate, Step, describe, measured_rate
from synth_dspy.pipeline.saved_files import INPUTS
from synth_dspy.pipeline.trust import Caller

if TYPE_CHECKING:
    import dspy
    import pyarrow as pa

    from synth_dspy.pipeline.saved_files import Saved

APPLIED = "applied"
REPORT = "report.json"
log = logging.getLogger("synth_dspy.pipeline.apply")


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
    truncated: int = 0

    def __str__(self) -> str:
        rate = self.run_now / max(self.seconds, 1e-9)
        lines = [
            f"{counted(self.rows, 'row')}: {self.distinct:,} distinct, {self.run_now:,} of them run now "
            f"in {self.seconds:,.0f} s ({rate:,.{0 if rate >= 10 else 2}f}/s), {self.failed:,} failed"
        ]
        if self.truncated:
            lines.append(
                f"{self.truncated:,} of those run now were cut off at the model's token limit and may be incomplete"
            )
        if self.failed:
            lines.append(
                f"the first failure: {self.first_error.rstrip('.')}; the same command with --force tries them again"
            )
        return "\n".join([*lines, *spending_lines(self.spent), str(self.output)])


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
        with _copy_in(folder) as copy:
            with bars.status("reading the input"):
                table = open_table(job.input, job.query, copy)
            stated = saved.about.get(INPUTS)
            if isinstance(stated, list) and set(job.columns) <= set(stated):  # else it takes the program to tell
                check_columns(stated, table, job)
            _check_outputs(table, job)
            with bars.status("opening the program"):  # the first to load what takes seconds
                from synth_dspy.domains.functions.replay import source_hash
                from synth_dspy.pipeline.datasets import hash_knowledge
                from synth_dspy.pipeline.rescore import attach_ledger
                from synth_dspy.pipeline.resources import open_executor
                from synth_dspy.pipeline.saved import fingerprint, rebuild

                made_from: list[Any] = [source_hash(task_file(saved.workspace, saved.about["task"]))]
                program = rebuild(saved, caller, on_read=lambda knowledge: made_from.append(hash_knowledge(knowledge)))
            attach_ledger(program, ledger)
            inputs = Inputs.of(program, table, job)
            ledger.budget.check()
        answers = Answers(folder / f"answers-{row_key(dict.fromkeys(job.outputs, 1)).hex()[:8]}.sqlite")
        try:
            answers.forget_failures()
            if answers.forget_others(fingerprint(made_from)):
                bars.say(
                    "What the task reads, or the code in programs/, has changed since the rows were answered: all are "
                    "run again, and only the calls that differ are made."
                )
            bars.say(_plan(saved, program, max(0, table.count - answers.count()), job, folder))
            executor = open_executor(saved.config, spare=True)
            work = Work(program, inputs, table, job, answers, ledger, saved.arm, executor)
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
            applied = Applied(
                job.output,
                table.count,
                answers.count(),
                work.run_now,
                work.failed,
                work.first_error,
                seconds,
                usage.calls,
                usage.from_ledger,
                usage.input_tokens,
                usage.output_tokens,
                usage.cost_usd,
                spending_of(ledger),
                work.truncated,
            )
        finally:
            answers.close()
        with replacing(folder / REPORT) as partial:
            partial.write_text(json.dumps({**asdict(applied), "output": str(job.output)}, indent=2) + "\n")
    _remove_copy(folder)  # a later job asks the database anew
    return applied


@contextmanager
def _copy_in(folder: Path) -> Iterator[Path]:
    """Where a query's result is copied to; the copy is kept if the block ends, or if a stopped job goes on with it."""
    resumed = any(folder.glob("input.*")) and any(folder.glob("answers-*.sqlite"))
    try:
        yield folder / "input"
    except BaseException:
        if not resumed:
            _remove_copy(folder)
        raise


def _remove_copy(folder: Path) -> None:
    for copy in folder.glob("input.*"):
        copy.unlink()


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


def job_folder(saved: Saved, job: Job) -> Path:
    """The folder of a job's progress: the same for the same program, input, query and columns."""
    where = job.input if "://" in job.input else str(Path(job.input).expanduser().resolve())
    about = {key: value for key, value in saved.about.items() if key != "signature"}
    what = [about, saved.state, where, job.query, sorted(job.columns.items())]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
    name = "".join(c if c.isalnum() else "-" for c in Path(where).stem)[:40]
    return saved.workspace / saved.config.runs_here / str(saved.about["task"]) / APPLIED / f"{name}-{digest[:12]}"


def _with_settings(saved: Saved, job: Job, price: tuple[float, float] | None) -> Saved:
    """The saved program with the job's concurrency and price."""
    config = saved.config.model_copy(update={"concurrency": job.concurrency})
    if price is not None:
        student = {**config.models.options.get("student", {}), "price": list(price)}
        models = config.models.model_copy(update={"options": {**config.models.options, "student": student}})
        config = config.model_copy(update={"models": models})
    return replace(saved, config=config)
