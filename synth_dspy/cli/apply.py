"""Apply a saved program to every row of a table: answers and errors beside the table's own columns.

    synth-dspy apply runs/doc_qa/<id>/programs/sft --input rows.parquet --output answers.parquet
    synth-dspy apply doc_qa --version v3 --input rows.csv --output answers.csv --columns question=q
    synth-dspy apply doc_qa --input sqlite:///shop.db --query "select id, body as question from mails" --output a.jsonl

The same command goes on where it was stopped; no answered row is asked again. See docs/apply.md.
"""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from pydantic import Field
from tyro.conf import Positional

from synth_dspy.cli.arguments import parse
from synth_dspy.core.config import CompileConfig, ExecutorAddress, Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.masking import mask_message
from synth_dspy.core.run_names import find_run
from synth_dspy.pipeline.trust import Caller


class ApplyConfig(Settings):
    """Which program is applied to what, and where the answers go.

    Attributes:
        program: folder of a saved program (in a run's programs/), or the name of a task, whose --version is taken.
        input: a file (.csv, .tsv, .jsonl, .parquet, .json), a folder of Parquet files, a Delta table, or a database:
            duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/NAME (password in PGPASSWORD), with --query.
        output: file to write: .csv, .tsv, .jsonl, .parquet, or .delta for a Delta table.
        query: for a database, a SELECT statement or a table's name. Without it, the rows are the database's tables and
            columns, for a program that comments on them.
        columns: columns of the program's inputs where they have other names: question=q document=file.
        outputs: fields of the program's predictions to write, answer unless given; answer=reply renames one.
        error_column: column for the error of a row that failed; empty in the other rows.
        version: with a task's name, the version of its program, or an alias.
        store: with a task's name, where its versions are kept, as in `versions`.
        runs: with a task's name, the folder of all runs.
        concurrency: concurrent model calls; with Ray, of each worker.
        executor: where model calls are made: `local` (in this process), `ray` (by workers on the Ray cluster that
            RAY_ADDRESS names, else on this machine), or `ray://HOST:PORT`.
        workers: workers on the Ray cluster; by default one for each of its machines, and two on this machine alone.
        stop_after: stop once so many rows have failed, one after the other.
        force: replace the output if it exists.
        max_usd: stop once the job's calls have cost so many US dollars; the same command with more goes on.
        max_minutes: stop after so many minutes.
        price: US dollars per million input and output tokens, in place of the list price: --price 0.15 0.6.
        trust: allow the files, databases and models named by a program that somebody else made; without it, they are
            listed (docs/trust.md).
        api_base: address of the models' server, in place of the saved one.
        api_key_name: environment variable with the key for that server.
        allow_http: allow sending that key over http:// to another machine.
    """

    program: Positional[str]
    input: str
    output: Path
    query: str | None = None
    columns: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("answer",)
    error_column: str = "error"
    version: str = "champion"
    store: str | None = None
    runs: Path = CompileConfig.model_fields["runs"].default
    concurrency: int = Field(default=64, ge=1)
    executor: ExecutorAddress = "local"
    workers: int | None = Field(default=None, ge=1)
    stop_after: int = Field(default=100, ge=1)
    force: bool = False
    max_usd: float | None = Field(default=None, ge=0)
    max_minutes: float | None = Field(default=None, gt=0)
    price: tuple[float, float] | None = None
    trust: bool = False
    api_base: str | None = None
    api_key_name: str | None = None
    allow_http: bool = False


def main(args: list[str]) -> None:
    """Parse `args`, apply, print a summary."""
    config = parse(ApplyConfig, verb="apply", description=(__doc__ or "").partition("\n")[0], args=args)
    columns, outputs = _pairs("--columns", config.columns), _pairs("--outputs", config.outputs, lone=True)
    folder = _program(config)
    from synth_dspy.core.budget import Budget
    from synth_dspy.core.progress import Bars
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    bars, budget = Bars(), Budget(config.max_usd, config.max_minutes)
    with bars.status("loading libraries"):
        from synth_dspy.pipeline.apply.job import apply_program
        from synth_dspy.pipeline.apply.settings import Job
        from synth_dspy.pipeline.saved_files import read_saved
    for name in ("dspy", "dspy.clients.lm"):  # DSPy, once it is imported, sets the first one's level anew
        logging.getLogger(name).setLevel(logging.ERROR)  # failures are in the error column, cut rows in the summary
    caller = Caller(
        config.trust, config.api_base, config.api_key_name, config.allow_http, True, config.executor, config.workers
    )
    saved = read_saved(folder, caller)
    job = Job(
        config.input,
        config.output,
        config.query,
        columns,
        outputs,
        config.error_column,
        config.concurrency,
        config.stop_after,
        config.force,
    )
    typed = mask_message(f"{command('apply')} {shlex.join(args)}")
    done = apply_program(saved, job, caller=caller, budget=budget, bars=bars, price=config.price, command=typed)
    print(done)


def _program(config: ApplyConfig) -> Path:
    """The folder of the program that is named by its path, or by its task."""
    path = find_run(config.program)
    if path.exists() or "/" in config.program:
        return path
    from synth_dspy.cli.production import ProductionConfig, open_registry

    registry = open_registry(ProductionConfig(store=config.store, runs=config.runs), config.program)
    version = registry.version(config.version)
    return Path(version.run) / "programs" / version.arm


def _pairs(flag: str, given: tuple[str, ...], *, lone: bool = False) -> dict[str, str]:
    """`a=b` as a mapping; with `lone`, `a` alone is `a=a`."""
    pairs = {}
    for each in given:
        name, equals, column = each.partition("=")
        if not name or (equals and not column) or not (equals or lone):
            raise SetupError(f"{flag} {each}: write it as {'NAME or ' if lone else ''}NAME=COLUMN.")
        pairs[name] = column if equals else name
    return pairs
