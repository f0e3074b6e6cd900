"""The main entry point from Python: `compile_task` starts or resumes a run and returns a `Run`.

run = compile_task("contract_qa", quick=True)                                # a task file of the workspace
run = compile_task(program=MyProgram(), trainset=rows, metric=my_metric, arms=["bootstrap", "sft"])
run.results                                                                  # a table in a notebook
run.program("sft")(question="...")
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from synth_dspy.core import run as runs
from synth_dspy.core import workspace as workspaces
from synth_dspy.core.budget import Budget
from synth_dspy.core.config import CompileConfig, absolute, compile_settings, read_toml
from synth_dspy.core.errors import AwaitingReview, NewRunNeeded, SetupError
from synth_dspy.core.invocation import CALL, command
from synth_dspy.core.io.files import limit_access, limit_access_to, restoring_umask
from synth_dspy.core.ledger_file import LEDGER, copy_answers
from synth_dspy.core.masking import mask_message
from synth_dspy.core.progress import Bars
from synth_dspy.core.s3.address import Address, address_of
from synth_dspy.core.validation import describe_error
from synth_dspy.models.offline import quiet_libraries
from synth_dspy.pipeline.given import check_given, hash_given, write_given
from synth_dspy.pipeline.tracking import track_run, tracking_uri
from synth_dspy.pipeline.trust import (
    LOCAL,
    ROLES,
    Caller,
    find_trusted_workspace,
    links_out,
    restrict_config,
    run_settings,
)

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.task import Task
    from synth_dspy.evaluation.view import Results

SECTIONS = ("models", "synthesis", "splits", "evaluation", "training", "retention", "retrieval")


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: all its files: `report.html`, `results.json`, the programs, the trainings.
    """

    folder: Path
    _programs: Mapping[str, dspy.Module] = field(default_factory=dict, repr=False)

    @cached_property
    def results(self) -> Results:
        """Scores, comparisons and the verdict; a table and a chart in a notebook."""
        from synth_dspy.evaluation.view import Results

        return Results.read(self.folder)

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.folder / "report.html"

    @property
    def arms(self) -> list[str]:
        """The arms that have a program."""
        return sorted(path.parent.name for path in self.folder.glob("programs/*/program.json"))

    def program(self, arm: str, declared: dspy.Module | Task | None = None) -> dspy.Module:
        """An arm's program, ready to use.

        Args:
            arm: the arm's name.
            declared: the program or the `Task` that was compiled, if another process compiled it and no task file
                declares it.

        Raises:
            SetupError: the run has no such arm, or its program cannot be opened.
        """
        if arm in self._programs:
            return self._programs[arm]
        if arm not in self.arms:
            raise SetupError(
                f"The run {self.folder} has no program of {arm!r}; there are {', '.join(self.arms) or 'none'}."
            )
        from synth_dspy.pipeline.saved import load

        return load(self.folder / "programs" / arm, program=declared)

    def _repr_html_(self) -> str:
        return self.results._repr_html_()


@restoring_umask()
def compile_task(
    task: str | Task | None = None,
    /,
    *,
    program: dspy.Module | None = None,
    trainset: Sequence[Any] = (),
    metric: Callable[..., Any] | None = None,
    answer: str = "",
    abstain: str = "",
    name: str = "",
    arms: str | Sequence[str] = (),
    models: Mapping[str, Any] | None = None,
    quick: bool = False,
    config: Path | str | None = None,
    workspace: Path | str | None = None,
    runs_folder: Path | str | None = None,
    resume: Path | str | None = None,
    **settings: Any,
) -> Run:
    """Compile a task or any DSPy program: tune its prompts and weights, score every arm, write the report.

    Args:
        task: the name of a task file in the workspace's `programs/`, or a `Task`.
        program: instead of a task, a DSPy program to improve.
        trainset: its labelled rows: DSPy examples, or mappings with its inputs and its answer. They are split into rows
            to learn from, to choose on, and to score on (held out).
        metric: DSPy's convention, `metric(example, prediction, trace=None)`; by default one for the type of the
            program's answer.
        answer: the program's output that is its answer, if it has several and none is called `answer`.
        abstain: the program's phrase for "there is no answer", if any.
        name: the folder name for the runs of a `Task` or a program.
        arms: arms to run besides the baseline, such as `["bootstrap", "sft"]`; by default the task's.
        models: model strings by role, `{"student": "embedded/smollm2-135m-instruct"}`, and their settings.
        quick: a smaller run of everything, to see that it works.
        config: a TOML file of settings, which these arguments override.
        workspace: the folder with the task; by default the nearest one.
        runs_folder: folder for the runs; by default `runs` in the workspace.
        resume: the folder of a stopped run, or its id, to resume with its own settings. The task, or the program,
            trainset and metric, must be the same, and so must settings that are given again, but max_usd and
            max_minutes.
        **settings: other settings of the run, by section as in its TOML: `training={"minutes": 5}`,
            `evaluation={"held_out": 40}`, `task={"documents": "..."}`, `seed=1`.

    Returns:
        The finished run.

    Raises:
        SetupError: a setting or a part of the task is wrong; says how to fix it. Answered calls are not lost.
    """
    if (task is None) == (program is None):
        raise SetupError(
            "Name either a task or a program with its trainset: compile_task('contract_qa'), or program=..."
        )
    if task is not None and (trainset or metric is not None or answer or abstain):
        raise SetupError("A task has rows, a metric and an answer of its own: give these with program= only.")
    arms = (arms,) if isinstance(arms, str) else arms
    given: dict[str, Any] = {key: dict(settings.pop(key, {})) for key in SECTIONS if key in settings} | settings
    if models:
        given["models"] = {**given.get("models", {}), **models}
    if arms:
        given["evaluation"] = {**given.get("evaluation", {}), "arms": tuple(arms)}
    given |= {key: value for key, value in (("quick", quick or None), ("runs", runs_folder)) if value is not None}
    if isinstance(task, str):
        here = workspaces.find_workspace(None if workspace is None else Path(workspace))
        model, name = compile_settings(workspaces.task_file(here, task)), task
    else:
        here, model, name = Path(workspace or Path.cwd()).resolve(), CompileConfig, name or _name(task or program)
        if program is not None:
            task = _as_task(program, trainset, metric, answer, abstain)
    in_memory = hash_given(program, trainset, metric) if program is not None else {}
    before = read_toml(Path(config), model) if config is not None else model()
    whole = absolute(_merged(before, given, model))
    if resume is not None:
        names = [
            f"{key}.{name}" if name else key
            for key, value in given.items()
            for name in (value if isinstance(value, Mapping) else ("",))
        ]
        repeated = {name: _setting(whole, name) for name in names if name != "runs"}
        limits: dict[str, Any] = {name: repeated.pop(name) for name in ("max_usd", "max_minutes") if name in repeated}
        if isinstance(task, str):
            return resume_run(task, str(resume), runs_folder, Caller(), limits=limits, repeated=repeated)
        kept_in = here / Path(runs_folder or model().runs_here).expanduser()
        return _resume_in_memory(str(resume), kept_in, name, here, task, in_memory, repeated, limits)
    return start(here, name, whole, task=None if isinstance(task, str) else task, given=in_memory)


def start(
    here: Path,
    name: str,
    config: CompileConfig,
    *,
    task: Task | None = None,
    typed: str = "",
    identifier: str = "",
    answers: Path | None = None,
    given: Mapping[str, str] | None = None,
) -> Run:
    """Start a run and finish it.

    Args:
        here: the workspace.
        name: the task's; a task file in the workspace unless `task` is given.
        config: the run's settings.
        task: a task in memory.
        typed: the command, for the report.
        identifier: the name of the run's folder; by default a new one.
        answers: the ledger of an earlier run, whose answers are used where this run's synthesis asks the same.
        given: hashes of what a program in memory came with, see `given.hash_given`.

    Raises:
        SetupError: a setting or the task is wrong; a run that fails before any model call leaves no folder.
    """
    destination = address_of(config.runs)
    run = runs.start(here / config.runs_here, name, config, here, identifier)
    copy = destination and destination / name / run.id
    if answers is not None:
        copy_answers(answers, run.folder / LEDGER, "synthesis")
    if task is not None:
        run.in_memory = True
        if given:
            write_given(run.folder, given)
        run.resume_command, typed = _call(run), _typed(config)
    try:
        return _finish(here, run, config, task, typed, copy)
    except (SetupError, AwaitingReview):
        if not run.begun:  # no call was answered, so there is nothing to resume
            runs.discard(run)
        raise


def resume_run(
    name: str,
    given: str,
    folder: str | Path | None,
    caller: Caller,
    *,
    typed: str = "",
    limits: Mapping[str, float | None] | None = None,
    repeated: Mapping[str, Any] | None = None,
) -> Run:
    """Resume a run that was stopped.

    Args:
        name: its task's.
        given: its id in `folder` (by default the workspace's own runs), or the path of its folder; either may be in S3.
        folder: the folder of runs.
        caller: what a run that somebody else started is allowed.
        typed: the command, for the report.
        limits: `max_usd` and `max_minutes` in place of the run's own.
        repeated: settings by name, which must be the run's.

    Raises:
        SetupError: there is no such run, it is one of another task, or it asks for more than the caller allows.
    """
    destination = address_of(folder)
    copy = address_of(given) or (destination and destination / name / given)
    if copy is not None:
        given, folder = str(_fetch_run(copy, workspaces.find_workspace())), None
    path, by_path = _named(given)
    if by_path:
        here, further = find_trusted_workspace(path, lambda place: runs.is_own(runs.Run(name, path), place))
    else:
        here, further = workspaces.find_workspace(), []
    task = path.parent.name
    if by_path and task != name and task in workspaces.task_names(here):
        raise SetupError(
            f"{path} is a run of {task}: resume it with {command(f'compile {task}')} --resume {shlex.quote(given)}."
        )
    model = compile_settings(workspaces.task_file(here, name))
    kept_in = Path(folder or model().runs_here).expanduser()
    run, config = runs.resume(here / kept_in, name, str(path) if by_path else given, model)
    _check_repeated(run, config, repeated or {})
    run.resume_command = shlex.join([*shlex.split(run.resume_command), *caller.arguments()])
    own = runs.is_own(run, here)
    if own and copy is None and (copy := _copy_of(run, config.runs)) is not None:
        _bring_up_to_date(copy, run.folder)
    config = restrict_config(
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
    config = caller.executing(config, default=config.executor if own else LOCAL)
    config = config.model_copy(update=dict(limits or {}))
    if own:  # the index of a run that was moved is next to it
        kept_in = path.parents[1] if by_path and task == name else kept_in
        kept_in = kept_in.relative_to(here) if kept_in.is_relative_to(here) else kept_in
        config = config.model_copy(update={"runs": kept_in})
    return _finish(here, run, config, None, typed, copy)


def _named(given: str) -> tuple[Path, bool]:
    """The path that names a run, and whether it is one: else it is an id.

    Raises:
        SetupError: there is no run in the path.
    """
    path = Path(given).expanduser().resolve()
    by_path, there = os.sep in given, (path / runs.CONFIG).is_file()
    if by_path and not there:
        raise SetupError(f"There is no run in {path}: name a run's folder, runs/<task>/<id>, or its id.")
    return path, by_path or there


def _resume_in_memory(
    given: str,
    kept_in: Path,
    name: str,
    here: Path,
    task: Task | None,
    hashes: Mapping[str, str],
    repeated: Mapping[str, Any],
    limits: Mapping[str, float | None],
) -> Run:
    """Resume a run of a task that no file declares: an id is one among the runs of its name in `kept_in`.

    What the program came with, by its hashes, and the settings that the call names must be the run's, but its limits.
    """
    copy = address_of(given)
    path, by_path = _named(given) if copy is None else (_fetch_run(copy, here), True)
    if by_path:
        kept_in, name = path.parents[1], path.parent.name
    run, config = runs.resume(kept_in, name, str(path) if by_path else given, CompileConfig)
    run.resume_command, run.in_memory = _call(run), True
    check_given(run.folder, hashes)
    _check_repeated(run, config, repeated)
    config = config.model_copy(update=dict(limits))
    limit_access(share=config.share)
    return _finish(here, run, config, task, _typed(config), copy or _copy_of(run, config.runs))


def _check_repeated(run: runs.Run, config: CompileConfig, repeated: Mapping[str, Any]) -> None:
    """Check that settings are the run's."""
    if other := [name for name, value in repeated.items() if value != _setting(config, name)]:
        raise SetupError(
            f"The run {run.folder} was started with another {other[0]}: leave it out of the call, or leave out resume= "
            "to start a new run."
        )


def _setting(config: CompileConfig, name: str) -> Any:
    """A setting by its name, such as `evaluation.arms`."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _copy_of(run: runs.Run, destination: Path) -> Address | None:
    """Where a run's copy in S3 is; None if its destination is a folder."""
    address = address_of(destination)
    return address and address / run.task / run.id


def _fetch_run(copy: Address, here: Path) -> Path:
    """The folder of a run in S3 among the workspace's own runs, up to date.

    Raises:
        SetupError: there is no such run.
    """
    *_, task, identifier = ("", *copy.key.split("/"))
    if not task or {task, identifier} & {".", ".."}:
        raise SetupError(f"{copy} is not a run: name it as s3://bucket/runs/<task>/<id>.")
    folder = here / "runs" / task / identifier
    _bring_up_to_date(copy, folder)
    return folder


def _bring_up_to_date(copy: Address, folder: Path) -> None:
    from synth_dspy.core.s3.client import open_store
    from synth_dspy.core.s3.runs import bring_up_to_date

    bars = Bars()
    with bars.status("fetching the run from S3"):
        bring_up_to_date(copy, folder, open_store(), bars.say)


def _call(run: runs.Run) -> str:
    """The call that resumes a run of a task that no file declares."""
    return f"{CALL}..., resume={str(run.folder.resolve())!r})"


def _typed(config: CompileConfig) -> str:
    """The call that starts a run of a task that no file declares: its settings in full, which a resumed run has too."""
    given = config.model_dump(mode="json", exclude_defaults=True, exclude_none=True, exclude={"runs"})
    arms = given.get("evaluation", {}).pop("arms", None)
    settings = {"arms": arms, "quick": None, **given}
    return mask_message(
        f"{CALL}{', '.join(['...', *(f'{key}={value!r}' for key, value in settings.items() if value)])})"
    )


def _finish(
    here: Path, run: runs.Run, config: CompileConfig, task: Task | None, typed: str, copy: Address | None = None
) -> Run:
    """Run every stage; `copy` is the run's copy in S3, which is kept up to date."""
    if copy is not None and not run.in_memory:
        run.resume_command = run.resume_command.replace(shlex.quote(str(run.folder.resolve())), shlex.quote(str(copy)))
    try:
        return _run(here, run, config, task, typed, copy)
    except SetupError as error:
        if not run.begun or run.resume_command in str(error) or isinstance(error, NewRunNeeded):
            raise
        raise SetupError(f"{error}\nThen resume with: {run.resume_command}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; no answered call is lost; to resume: {run.resume_command}") from None


def _run(here: Path, run: runs.Run, config: CompileConfig, task: Task | None, typed: str, copy: Address | None) -> Run:
    bars = Bars()
    budget = Budget(config.max_usd, config.max_minutes)  # first: loading libraries and models takes of its time
    quiet_libraries()
    with bars.status("loading libraries"):
        from synth_dspy.core.ledger import Ledger
        from synth_dspy.core.s3.mirror import mirrored
        from synth_dspy.models.ledger_lm import keep_no_calls
        from synth_dspy.pipeline.defaults import complete
        from synth_dspy.pipeline.experiment import Experiment
        from synth_dspy.pipeline.saved import build_task

        whole = build_task(here, run.task, config) if task is None else complete(task, _workspace_of(here))
    runs.log_to(run)  # after the imports: DSPy sets up logging of its own
    with ExitStack() as stack:
        # Outside the ledger, so that what is answered while it closes is copied too.
        mirror = None
        if copy is not None:
            mirror = stack.enter_context(mirrored(copy, run.folder, bars.say, begun=lambda: run.begun))
        ledger = stack.enter_context(Ledger(run.folder / LEDGER, resume_command=run.resume_command, budget=budget))
        if mirror is not None:
            mirror.start(ledger)
            run.after_stage = mirror.renew_soon
        experiment = Experiment(here, whole, config, run, ledger, bars, typed)
        experiment.compile()
    if tracking_uri() is not None:
        with bars.status("tracking"):
            track_run(run.folder, run.task, bars.say)
    for program in experiment.programs.values():
        keep_no_calls(program)
    return Run(run.folder, experiment.programs if task is not None else {})


def _workspace_of(here: Path) -> Path | None:
    with suppress(SetupError):
        return workspaces.find_workspace(here)
    return None


def _as_task(
    program: dspy.Module, trainset: Sequence[Any], metric: Callable[..., Any] | None, answer: str, abstain: str
) -> Task:
    from synth_dspy.core.task import Task
    from synth_dspy.domains.rows.source import Examples
    from synth_dspy.evaluation.answers import MetricJudge, ModelFree, check_metric

    if isinstance(program, type):
        raise SetupError(f"The program is the class {program.__name__}: give an instance, {program.__name__}().")
    if not trainset:
        raise SetupError("The trainset is empty: give labelled rows, to learn from and to score on.")
    own = None if metric is None else MetricJudge(metric)
    if own is not None:
        check_metric(own.name, own.metric)
    return Task(
        program=program,
        source=Examples(tuple(trainset), answered=metric is None),
        answer=answer,
        abstain=abstain,
        judge=None if own is None else ModelFree(lambda: own, "by the metric"),
    )


def _name(what: Any) -> str:
    """The name for a program's runs: that of its class or signature."""
    signature = getattr(what, "signature", None)
    named = getattr(signature, "__name__", "") if signature is not None else type(what).__name__
    if named == "StringSignature":  # DSPy's name for a signature written as a text
        return "program"
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in named).lstrip("_") or "program"


def _merged(before: CompileConfig, given: Mapping[str, Any], model: type[CompileConfig]) -> CompileConfig:
    """Settings overridden by others, section by section.

    Raises:
        SetupError: one does not exist or has an invalid value; names it.
    """
    values = before.model_dump()
    for key, value in given.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, Mapping) else value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SetupError(f"Of the settings, {describe_error(error, model)}") from error
