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
from synth_dspy.options import described, take_options
from synth_dspy.progress import Bars

USAGE = """usage: python -m synth_dspy.compile TASK [options]
       python -m synth_dspy.compile TASK --resume RUN
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
        folder, rest = _take(rest, "--runs")
        if rest or toml:
            raise SetupError(
                "A run is resumed with the configuration it was started with: give --resume without "
                f"{' '.join(rest) or '--config'}."
            )
        run, config = runs.resume(here / (folder or model().runs), name, resumed, model)
        # A run that was moved has its index beside it, wherever it was made.
        config = config.model_copy(update={"runs": Path(folder or model().runs)})
        return _compile(here, run, config)
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
    command = f"python -m synth_dspy.compile {shlex.join(sys.argv[1:])}"
    where = "" if config.runs == type(config)().runs else f" --runs {shlex.quote(str(config.runs))}"
    run.again = f"python -m synth_dspy.compile {run.task} --resume {run.id}{where}"
    with Ledger(run.folder / "ledger.sqlite", again=run.again) as ledger:
        results, measurements = Experiment(here, task, config, run, ledger, bars, command).compile()
    console = Console()
    console.print(summary_table(results, measurements))
    console.print(f"\n{run.folder / 'report.html'}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_verb(main)
