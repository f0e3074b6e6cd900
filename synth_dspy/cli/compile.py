"""`python -m synth_dspy.compile <task>`: from a task to a benchmark report of its program's compiled versions."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from pydantic import ValidationError

from synth_dspy.cli.arguments import parse
from synth_dspy.cli.options import options_help, short_flags, take_options
from synth_dspy.core import workspace
from synth_dspy.core.config import CompileConfig, absolute, compile_settings, read_toml
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.masking import mask_message
from synth_dspy.core.terminal import standard_output
from synth_dspy.core.validation import describe_error
from synth_dspy.pipeline.compile import Run, resume_run, start
from synth_dspy.pipeline.trust import Caller

USAGE = """usage: {compile} TASK [--config FILE] [options]
       {compile} TASK --resume RUN     its id, or the path of its folder
           [--runs FOLDER] [--trust] [--api-base URL] [--api-key-name NAME] [--allow-http]
           [--max-usd DOLLARS] [--max-minutes MINUTES] [--executor ADDRESS] [--workers N]
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
    began = time.perf_counter()
    if resumed is not None:
        trusted, rest = _take_flag(rest, "--trust")
        allow_http, rest = _take_flag(rest, "--allow-http")
        api_base, rest = _take(rest, "--api-base")
        api_key_name, rest = _take(rest, "--api-key-name")
        folder, rest = _take(rest, "--runs")
        limits: dict[str, float] = {}
        for limit in ("max_usd", "max_minutes"):
            flag = f"--{limit.replace('_', '-')}"
            given, rest = _take(rest, flag)
            if given is not None:
                limits[limit] = _limit(flag, given)
        executor, rest = _take(rest, "--executor")
        workers, rest = _take(rest, "--workers")
        if rest or toml:
            raise SetupError(
                "A run is resumed with the configuration it was started with: give --resume without "
                f"{' '.join(rest) or '--config'}."
            )
        caller = Caller(trusted, api_base, api_key_name, allow_http, True, *_cluster(executor, workers))
        return _show(resume_run(name, resumed, folder, caller, typed=typed, limits=limits), began)
    here, config, words = configured(name, rest, toml)
    typed = mask_message(f"{command('compile')} {shlex.join([name, *words, *(['--config', toml] if toml else [])])}")
    return _show(start(here, name, config, typed=typed), began)


def configured(name: str, rest: list[str], toml: str | None) -> tuple[Path, CompileConfig, list[str]]:
    """The workspace, the configuration of a task's run, and its flags without their short forms.

    Args:
        name: the task's.
        rest: the flags.
        toml: a configuration file that they override.

    Raises:
        SetupError: there is no such task, file or option.
    """
    here = workspace.find_workspace()
    model = compile_settings(workspace.task_file(here, name))
    words = short_flags(model, rest)
    default, rest = take_options(read_toml(Path(toml), model) if toml else model(), words)
    about = f"{USAGE.format(compile=command('compile'))}\n{options_help()}"
    return here, absolute(parse(model, verb=f"compile {name}", description=about, default=default, args=rest)), words


def _tasks_here() -> str:
    try:
        return f"Tasks here: {', '.join(workspace.task_names(workspace.find_workspace()))}."
    except SetupError as error:
        return str(error)


def _show(run: Run, began: float) -> int:
    """Print the result table of a finished run, the reasons of failed arms, and the report's path."""
    from synth_dspy.evaluation.finished_runs import read_run
    from synth_dspy.evaluation.report.render import failures, summary_table

    saved_run = read_run(run.folder)
    console = standard_output()
    for part in (summary_table(saved_run.results, saved_run.measurements), *failures(saved_run.results)):
        console.print(part)
    console.print(f"\n{run.report}  ({time.perf_counter() - began:.0f} s)", soft_wrap=True)
    return 0


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


def _limit(flag: str, text: str) -> float:
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise SetupError(f"{flag} is {text!r}: it should be a number that is not negative.")
    return limit


def _cluster(executor: str | None, workers: str | None) -> tuple[str | None, int | None]:
    try:
        given = {name: value for name, value in (("executor", executor), ("workers", workers)) if value is not None}
        config = CompileConfig.model_validate(given)
    except ValidationError as error:
        raise SetupError(f"--{describe_error(error, CompileConfig)}") from None
    return executor and config.executor, config.workers


def _take_flag(args: list[str], flag: str) -> tuple[bool, list[str]]:
    """Whether a flag without a value is given, and the other arguments."""
    return flag in args, [argument for argument in args if argument != flag]
