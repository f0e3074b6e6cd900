"""`python -m synth_dspy.compile <task>`: from documents to a benchmark report of RAG against its compiled versions."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

from synth_dspy import run as runs
from synth_dspy import workspace
from synth_dspy.cli import parse, run_verb
from synth_dspy.config import CompileConfig, absolute, compile_settings, read_toml
from synth_dspy.errors import SetupError
from synth_dspy.files import limit_access_to
from synth_dspy.invocation import command
from synth_dspy.lms.offline import quiet_libraries
from synth_dspy.masking import mask_message
from synth_dspy.options import described, take_options
from synth_dspy.progress import Bars
from synth_dspy.terminal import standard_output
from synth_dspy.trust import ROLES, Caller, find_trusted_workspace, links_out, run_settings, settle

USAGE = """usage: {compile} TASK [options]
       {compile} TASK --resume RUN     its id, or the path of its folder
           [--runs FOLDER] [--trust] [--api-base URL] [--api-key-name NAME] [--allow-http]
       {compile} TASK --help

Compile a task: index its knowledge, write training data, compile prompts, score every arm, write the report.
"""


def main(args: list[str]) -> int:
    """Parse `args`, run or resume, print the result table."""
    usage = USAGE.format(compile=command("compile"))
    if not args or args[0] in ("-h", "--help"):
        print(f"{usage}\n{_tasks_here()}")
        return 0 if args else 2
    name, *rest = args
    if name.startswith("-"):
        raise SetupError(f"The task comes first: {command('compile')} TASK [options]. {_tasks_here()}")
    typed = mask_message(f"{command('compile')} {shlex.join(args)}")
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
        caller = Caller(trusted, api_base, api_key_name, allow_http, flags=True)
        return _resume(name, resumed, folder, caller, typed)
    here = workspace.find_workspace()
    model = compile_settings(workspace.task_file(here, name))
    default, rest = take_options(read_toml(Path(toml), model) if toml else model(), rest)
    about = f"{usage}\n{described()}"
    config = absolute(parse(model, verb=f"compile {name}", description=about, default=default, args=rest))
    run = runs.start(here / config.runs.expanduser(), name, config, here)
    try:
        return _compile(here, run, config, typed)
    except SetupError:
        if not run.begun:  # nothing was answered: a run that a mistake ended is none to go on with
            runs.discard(run)
        raise


def _tasks_here() -> str:
    try:
        return f"Tasks here: {', '.join(workspace.task_names(workspace.find_workspace()))}."
    except SetupError as error:
        return str(error)


def _resume(name: str, given: str, folder: str | None, caller: Caller, typed: str) -> int:
    """Go on with a run, by its id in `folder` (by default the workspace's own runs) or by the path of its folder.

    Raises:
        SetupError: there is no such run, it is one of another task, or it asks for more than the caller allows.
    """
    path = Path(given).expanduser().resolve()
    by_path = os.sep in given or (path / runs.CONFIG).is_file()
    if by_path and not (path / runs.CONFIG).is_file():
        raise SetupError(f"There is no run in {path}: name a run's folder, runs/<task>/<id>, or its id.")
    if by_path:
        here, further = find_trusted_workspace(path, lambda place: runs.is_own(runs.Run(name, path), place))
    else:
        here, further = workspace.find_workspace(), []
    task = path.parent.name
    if by_path and task != name and task in workspace.task_names(here):
        raise SetupError(f"{path} is a run of {task}: go on with {command(f'compile {task}')} --resume {given}.")
    model = compile_settings(workspace.task_file(here, name))
    kept_in = Path(folder or model().runs).expanduser()
    run, config = runs.resume(here / kept_in, name, str(path) if by_path else given, model)
    run.again = shlex.join([*shlex.split(run.again), *caller.arguments()])
    own = runs.is_own(run, here)
    config = settle(
        config,
        caller,
        own=own,
        what=f"The run {run.folder}",
        workspace=here,
        folder=run.folder.resolve(),
        roles=ROLES,
        further=[] if own else [*further, *run_settings(config, here), *links_out(run.folder, run.folder)],
    )
    limit_access_to(run.folder, share=config.share)
    if own:  # a run that was moved has its index beside it, wherever it was made
        kept_in = path.parents[1] if by_path and task == name else kept_in
        kept_in = kept_in.relative_to(here) if kept_in.is_relative_to(here) else kept_in
        config = config.model_copy(update={"runs": kept_in})
    return _compile(here, run, config, typed)


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


def _compile(here: Path, run: runs.Run, config: CompileConfig, typed: str) -> int:
    """Run every station and print what came of it; `typed` is the command, for the report."""
    try:
        return _run(here, run, config, typed)
    except SetupError as error:
        if not run.begun or run.again in str(error):
            raise
        raise SetupError(f"{error}\nTo go on then: {run.again}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; nothing that was answered is lost; to go on: {run.again}") from None


def _run(here: Path, run: runs.Run, config: CompileConfig, typed: str) -> int:
    began = time.perf_counter()
    bars = Bars()
    quiet_libraries()
    with bars.status("loading libraries"):
        from synth_dspy.evaluation.report import failures, summary_table
        from synth_dspy.experiment import Experiment
        from synth_dspy.ledger import Ledger
        from synth_dspy.saved import build_task

        task = build_task(here, run.task, config)
    runs.log_to(run)  # after the imports: DSPy sets up logging of its own
    with Ledger(run.folder / "ledger.sqlite", again=run.again) as ledger:
        results, measurements = Experiment(here, task, config, run, ledger, bars, typed).compile()
    console = standard_output()
    for part in (summary_table(results, measurements), *failures(results)):
        console.print(part)
    console.print(f"\n{run.folder / 'report.html'}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)
    return 0


if __name__ == "__main__":
    run_verb(main)
