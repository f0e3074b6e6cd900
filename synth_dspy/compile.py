"""`python -m synth_dspy.compile <task>`: from documents to a benchmark report of RAG against its compiled versions."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from rich.console import Console

from synth_dspy import run as runs
from synth_dspy import workspace
from synth_dspy.cli import parse, run_verb
from synth_dspy.config import CompileConfig, absolute, compile_settings, read_toml
from synth_dspy.errors import SetupError
from synth_dspy.lms.offline import quiet_libraries
from synth_dspy.masking import mask_message
from synth_dspy.options import described, take_options
from synth_dspy.progress import Bars
from synth_dspy.trust import ROLES, Caller, run_settings, settle

USAGE = """usage: python -m synth_dspy.compile TASK [options]
       python -m synth_dspy.compile TASK --resume RUN [--runs FOLDER] [--trust] [--api-base URL] [--api-key-name NAME]
       python -m synth_dspy.compile TASK --help

Compile a task: index its knowledge, write training data, compile prompts, score every arm, write the report.
"""


def main(args: list[str]) -> int:
    """Parse `args`, run or resume, print the result table."""
    if not args or args[0].startswith("-"):
        here = workspace.find_workspace()
        print(f"{USAGE}\ntasks here: {', '.join(workspace.task_names(here))}")
        return 0 if args and args[0] in ("-h", "--help") else 2
    name, *rest = args
    here = workspace.find_workspace()
    model = compile_settings(workspace.task_file(here, name))
    resumed, rest = _take(rest, "--resume")
    toml, rest = _take(rest, "--config")
    if resumed is not None:
        trusted, rest = _take_flag(rest, "--trust")
        allow_http, rest = _take_flag(rest, "--allow-http")
        api_base, rest = _take(rest, "--api-base")
        api_key_name, rest = _take(rest, "--api-key-name")
        folder, rest = _take(rest, "--runs")
        if rest or toml:
            raise SetupError(
                "A run is resumed with the configuration it was started with: give --resume without "
                f"{' '.join(rest) or '--config'}."
            )
        place = Path(folder) if folder else model().runs
        run, config = runs.resume(here / place, name, resumed, model)
        own = runs.is_own(run, here)
        caller = Caller(trusted, api_base, api_key_name, allow_http, flags=True)
        config = settle(
            config,
            caller,
            own=own,
            what=f"The run {run.folder}",
            workspace=here,
            folder=run.folder.resolve(),
            roles=ROLES,
            further=[] if own else list(run_settings(config, here)),
        )
        return _compile(here, run, config if own else config.model_copy(update={"runs": place}))
    default, rest = take_options(read_toml(Path(toml), model) if toml else model(), rest)
    usage = f"{USAGE}\n{described()}"
    config = absolute(parse(model, verb=f"compile {name}", description=usage, default=default, args=rest))
    run = runs.start(here / config.runs, name, config)
    try:
        return _compile(here, run, config)
    except SetupError:
        if not run.begun:  # nothing was answered: a run that a mistake ended is none to go on with
            runs.discard(run)
        raise


def _take(args: list[str], flag: str) -> tuple[str | None, list[str]]:
    """The value of `flag` and the other arguments."""
    for position, argument in enumerate(args):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2], args[:position] + args[position + 1 :]
        if argument == flag:
            if position + 1 == len(args):
                raise SetupError(f"{flag} needs a value.")
            return args[position + 1], args[:position] + args[position + 2 :]
    return None, args


def _take_flag(args: list[str], flag: str) -> tuple[bool, list[str]]:
    """Whether a flag without a value is there, and the other arguments."""
    return flag in args, [argument for argument in args if argument != flag]


def _compile(here: Path, run: runs.Run, config: CompileConfig) -> int:
    began = time.perf_counter()
    bars = Bars()
    quiet_libraries()
    with bars.console.status("loading libraries"):
        from synth_dspy.evaluation.report import summary_table
        from synth_dspy.experiment import Experiment
        from synth_dspy.ledger import Ledger
        from synth_dspy.saved import build_task

        task = build_task(here, run.task, config)
    runs.log_to(run)  # after the imports: DSPy sets up logging of its own
    command = mask_message(f"python -m synth_dspy.compile {shlex.join(sys.argv[1:])}")
    with Ledger(run.folder / "ledger.sqlite") as ledger:
        results, measurements = Experiment(here, task, config, run, ledger, bars, command).compile()
    console = Console()
    console.print(summary_table(results, measurements))
    console.print(f"\n{run.folder / 'report.html'}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_verb(main)
