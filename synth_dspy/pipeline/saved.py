"""Saved programs: DSPy's state as JSON, and the declaration they belong to. Nothing is pickled.

    programs/<arm>/program.json   DSPy's state: instructions, demonstrations, the LM without keys
    programs/<arm>/about.json     the task, its settings, and where its index lies

`load` rebuilds the program from the declaration in the workspace, so the files never decide which code runs. Whatever
else they name is followed if this user made them here; see `synth_dspy.pipeline.trust` and docs/trust.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError, model_validator

from synth_dspy.core import signing
from synth_dspy.core.config import CompileConfig, Retrieval, Settings
from synth_dspy.core.errors import SetupError, SynthDspyError
from synth_dspy.core.s3.address import is_address
from synth_dspy.core.s3.reading import local
from synth_dspy.core.validation import describe_error
from synth_dspy.core.workspace import explain_errors, find_workspace, import_from, task_file
from synth_dspy.evaluation.answers import place_of
from synth_dspy.pipeline.saved_files import ABOUT, IN_MEMORY, INPUTS, PROGRAM, Saved, models_in, read_saved
from synth_dspy.pipeline.trust import SAMPLING, Caller

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.knowledge import Knowledge
    from synth_dspy.core.run import Run
    from synth_dspy.core.task import CompleteTask, Task

__all__ = [
    "ABOUT", "INDEXES", "PROGRAM", "Saved", "build_task", "fingerprint", "index_folder", "is_same", "load",
    "open_program", "read_saved", "rebuild", "save", "tuned_model",
]  # fmt: skip

INDEXES = "indexes"
RETRIEVAL = "retrieval"
"""In `about.json`: settings of retrieval of an arm that searched for the best."""
ROUTER = "router"
"""In `about.json`: the arms among which a router chooses, and the scores that it has learned from."""


def fingerprint(value: Any) -> str:
    """A hash of a JSON value: 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def build_task(workspace: Path, name: str, config: CompileConfig) -> CompleteTask:
    """Import `programs/<name>.py` and build its task with the run's `--task.` settings.

    Raises:
        SetupError: no such task, or the file declares none.
    """
    from synth_dspy.core.task import Task
    from synth_dspy.pipeline.defaults import complete

    task_file(workspace, name)
    with explain_errors(workspace):
        module = import_from(workspace, f"programs.{name}")
        declared = [
            value
            for value in vars(module).values()
            if getattr(value, "__synth_dspy_task__", False) and value.__module__ == module.__name__
        ]
        if not declared:
            raise SetupError(f"{module.__file__} declares no task: it needs one function decorated with @task.")
        if len(declared) > 1:
            raise SetupError(f"{module.__file__} declares {len(declared)} tasks; give each a file of its own")
        (function,) = declared
        task = function(**_local_settings(config))
        if not isinstance(task, Task):
            kind = type(task).__name__
            raise SetupError(f"{place_of(function)}: {function.__name__} returns a {kind}; it must return a Task.")
        return complete(task, workspace)


def _local_settings(config: CompileConfig) -> dict[str, Any]:
    """The task's settings, with copies on this machine in place of addresses in S3."""
    settings = dict(getattr(config, "task", None) or ())
    return {
        name: local(value) if isinstance(value, Path) and is_address(value) else value
        for name, value in settings.items()
    }


def index_folder(workspace: Path, name: str, config: CompileConfig, task: CompleteTask) -> Path:
    """The index's folder. Runs over the same knowledge share it, so that only what changed is embedded again."""
    settings = config.model_dump(mode="json")
    knowledge = {key: value for key, value in (settings.get("task") or {}).items() if key not in task.asks}
    if "task" not in settings:  # a task in memory: two of them may have the same name
        knowledge = {"source": repr(task.source)}
    return workspace / config.runs_here / name / INDEXES / fingerprint({"task": knowledge, "limit": config.limit})


def save(
    run: Run,
    arm: str,
    program: dspy.Module,
    config: CompileConfig,
    workspace: Path | None = None,
    *,
    declared: dspy.Module | None = None,
) -> Path:
    """Write a compiled program into its run, signed for the workspace, by default the current folder's.

    Args:
        run: the run.
        arm: the arm's name.
        program: of the arm.
        config: the run's.
        workspace: signs it.
        declared: the program that it was compiled from, whose inputs `apply` looks for before it loads anything.

    Returns:
        The folder that `load` takes.
    """
    import dspy

    from synth_dspy.domains.documents.search import retriever_of, tuned
    from synth_dspy.pipeline.program_inputs import declared_inputs
    from synth_dspy.training.recipes.route import Routed

    state = program.dump_state() | {"metadata": {"dependency_versions": {"dspy": dspy.__version__}}}
    run.write_json(f"programs/{arm}/{PROGRAM}", state)
    about: dict[str, Any] = {"task": run.task, "arm": arm, "config": config.model_dump(mode="json")}
    if declared is not None:
        with suppress(IndexError, NameError, TypeError, ValueError):  # a `forward` that does not tell
            about[INPUTS] = sorted(declared_inputs(declared)[1])
    if run.in_memory:
        about[IN_MEMORY] = True
    retriever = retriever_of(program)
    if retriever is not None and tuned(retriever.settings) != tuned(config.retrieval):
        about[RETRIEVAL] = tuned(retriever.settings)
    if isinstance(program, Routed):
        router = program.router
        about[ROUTER] = {name: list(getattr(router, name)) for name in ("programs", "questions", "scores")}
    trained = tuned_model(program)
    if trained is not None:
        about["weights"] = os.path.relpath(trained, run.folder)
    try:
        about["signature"] = signing.sign(workspace or find_workspace(), about, state)
    except SetupError:  # outside any workspace
        about["signature"] = None
    run.write_json(f"programs/{arm}/{ABOUT}", about)
    return run.folder / "programs" / arm


def is_same(one: Path, other: Path) -> bool:
    """Whether two folders of saved programs of a run hold the same program, under different names."""

    def state(folder: Path) -> tuple[Any, Any]:
        about, program = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (ABOUT, PROGRAM))
        return {key: value for key, value in about.items() if key not in ("arm", "signature")}, program

    return state(one) == state(other)


def tuned_model(program: dspy.Module, student: dspy.LM | None = None) -> Path | None:
    """The weights (a merged file, or an adapter's folder) of a program whose LM was tuned; None for any other, and for
    a router, whose programs have several.

    Args:
        program: tuned or not.
        student: the LM before this tuning, which may itself come from an earlier one.

    Raises:
        Exception: training failed; like DSPy's own providers, the trainer leaves the exception in the LM's place.
    """
    from synth_dspy.training.provider import weights_of
    from synth_dspy.training.recipes.route import Routed

    if isinstance(program, Routed):
        return None
    for predictor in program.predictors():
        lm = predictor.lm
        if isinstance(lm, Exception):
            raise lm
        if lm is not None and lm.model != (student and student.model) and weights_of(lm.model) is not None:
            return weights_of(lm.model)
    return None


def load(
    path: str | Path,
    *,
    trust: bool = False,
    workspace: Path | None = None,
    program: dspy.Module | Task | None = None,
    api_base: str | None = None,
    api_key_name: str | None = None,
    allow_http: bool = False,
) -> dspy.Module:
    """A ready program from a run: `load("runs/contract_qa/<id>/programs/bootstrap")(question=..., document=...)`.

    Args:
        path: the program's folder.
        trust: allow the files, databases and models named by a program that somebody else made. The error without it
            lists them. It does not cover addresses and keys.
        workspace: the folder with the program's declaration; by default the one recorded in its run, else the nearest
            above it, else above the current folder.
        program: the DSPy program, or the `Task`, that was compiled, if no task file declares it.
        api_base: address of the models' server, in place of the saved one.
        api_key_name: environment variable with the key for that server, in place of the saved one.
        allow_http: allow sending the key over http:// to another machine.

    Raises:
        SetupError: the folder has no program, its task is missing, it names code outside this package, or it asks for
            more than the arguments allow.
    """
    caller = Caller(trust, api_base, api_key_name, allow_http)
    return open_program(local(path), caller, workspace=workspace, program=program)


def open_program(
    path: Path, caller: Caller, *, workspace: Path | None = None, program: dspy.Module | Task | None = None
) -> dspy.Module:
    """`load` for a caller that may be a command line."""
    return rebuild(read_saved(path, caller, workspace=workspace, in_memory=program is not None), caller, program)


def rebuild(
    saved: Saved,
    caller: Caller,
    declared: dspy.Module | Task | None = None,
    *,
    on_read: Callable[[Knowledge], None] = lambda knowledge: None,
) -> dspy.Module:
    """The saved program with its models and its index.

    Args:
        saved: the program.
        caller: who opens it.
        declared: replaces the task's declaration.
        on_read: is given what the task's source has read.

    Raises:
        SetupError: a model or its knowledge cannot be opened, or the state does not fit the declaration.
    """
    from synth_dspy.pipeline.resources import open_retriever, open_saved
    from synth_dspy.training.provider import tuned_lm

    if ROUTER in saved.about:
        return _rebuild_router(saved, caller, declared, on_read)
    name, config = saved.about["task"], saved.config
    task = build_task(saved.workspace, name, config) if declared is None else _task_of(declared)
    resources = open_saved(config, task)
    knowledge = task.source.read(config.limit)
    on_read(knowledge)
    index = index_folder(saved.workspace, name, config, task)
    retriever = open_retriever(index, task, knowledge.documents, resources.embedder, _retrieval(saved))
    program = task.program(replace(resources, retriever=retriever))
    if declared is not None:
        _check_fit(program, saved)
    _load_state(program, saved)
    student = resources.student
    if "weights" in saved.about:
        student = tuned_lm(student, _weights(saved.folder, saved.about["weights"]))
        program.set_lm(student)
    elif not saved.own:
        _open_models(program, saved, caller, student.model)
    for predictor in program.predictors():
        if predictor.lm is None or predictor.lm.model == student.model:
            predictor.lm = student  # as the configuration opens it: its address, its key from the environment
    return program


def _rebuild_router(
    saved: Saved, caller: Caller, declared: dspy.Module | Task | None, on_read: Callable[[Knowledge], None]
) -> dspy.Module:
    """A saved router, with the programs of its run that it chooses among."""
    from synth_dspy.pipeline.resources import open_embedder
    from synth_dspy.training.recipes.route import Routed, Router

    try:
        stated = _RouterState.model_validate(saved.about[ROUTER])
    except ValidationError as error:
        raise SetupError(
            f"The saved program {saved.folder / ABOUT} is damaged: {ROUTER}.{describe_error(error, _RouterState)}"
        ) from None
    programs = {}
    for arm in stated.programs:
        folder = saved.run / "programs" / arm
        if not folder.is_dir():
            raise SetupError(f"The router {saved.folder} needs the program {folder}: copy the run's folder whole.")
        expert = read_saved(folder, caller, workspace=saved.workspace, in_memory=declared is not None)
        programs[arm] = rebuild(expert, caller, declared, on_read=on_read)
    router = Router(stated.programs, stated.questions, stated.scores, open_embedder(saved.config))
    return Routed(programs, router)


class _RouterState(Settings):
    """A router in `about.json`."""

    programs: Annotated[list[Annotated[str, Field(pattern=r"^\w[^/\x00]*$")]], Field(min_length=1)]
    questions: list[str]
    scores: list[list[Annotated[float, Field(ge=0, le=1)]]]

    @model_validator(mode="after")
    def _of_one_shape(self) -> _RouterState:
        if len(self.scores) != len(self.questions) or any(len(row) != len(self.programs) for row in self.scores):
            raise ValueError("its scores are not one for each question and program")
        return self


def _retrieval(saved: Saved) -> Retrieval:
    """How a saved program searches: as its run did, except for the settings that its arm has of its own."""
    from synth_dspy.domains.documents.search import TUNED

    own, damaged = saved.about.get(RETRIEVAL, {}), f"The saved program {saved.folder / ABOUT} is damaged"
    if not isinstance(own, dict) or own.keys() - set(TUNED):  # where the index is kept is the run's to say
        raise SetupError(f"{damaged}: its {RETRIEVAL} holds other settings than {', '.join(TUNED)}.")
    try:
        return Retrieval.model_validate(saved.config.retrieval.model_dump() | own)
    except ValidationError as error:
        raise SetupError(f"{damaged}: {RETRIEVAL}.{describe_error(error, Retrieval)}") from None


def _task_of(declared: dspy.Module | Task) -> CompleteTask:
    """The task of a declaration in memory; a program alone needs no rows, since nothing is learned or scored."""
    from synth_dspy.core.task import Task
    from synth_dspy.domains.rows.source import Examples
    from synth_dspy.pipeline.defaults import complete

    if isinstance(declared, Task):
        return complete(declared)
    try:
        return complete(Task(program=declared, source=Examples(())))
    except SetupError as error:
        raise SetupError(f"{error} Give load(program=...) that Task.") from error


def _check_fit(program: dspy.Module, saved: Saved) -> None:
    """Refuse a program other than the one that was saved: DSPy would load any state into any predictor."""
    ours = {name: _fields(predictor.dump_state()) for name, predictor in program.named_predictors()}
    theirs = {name: _fields(state) for name, state in saved.state.items() if name != "metadata"}
    names = dict.fromkeys([*theirs, *ours])
    if differing := [name for name in names if not _are_alike(theirs.get(name), ours.get(name))]:
        was, given = (
            ", ".join(f"{name} ({', '.join(map(_shown, each[name]))})" for name in differing if name in each)
            for each in (theirs, ours)
        )
        raise SetupError(
            f"The saved program {saved.folder} is not the one given: it has {was or 'no further predictor'}, the one "
            f"given has {given or 'none such'}; give the program that was compiled."
        )


def _fields(state: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """The prefixes and descriptions of a predictor's fields, whose names DSPy does not save."""
    return list((state.get("signature") or {}).get("fields") or [])


def _are_alike(one: Sequence[Mapping[str, str]] | None, other: Sequence[Mapping[str, str]] | None) -> bool:
    """Whether two predictors have the same fields, of which an optimizer may have changed the prefixes."""
    if one is None or other is None or len(one) != len(other):
        return False
    keys = ("prefix", "description")
    return all(any(a.get(key) == b.get(key) for key in keys) for a, b in zip(one, other, strict=True))


def _shown(field: Mapping[str, str]) -> str:
    return str(field.get("prefix")).rstrip(":")


def _load_state(program: dspy.Module, saved: Saved) -> None:
    """Load the saved state into a program, without the models and addresses that somebody else saved."""
    state = {
        key: value if saved.own or key == "metadata" else {**value, "lm": None} for key, value in saved.state.items()
    }
    try:
        program.load_state(state, allow_unsafe_lm_state=saved.own)
    except SynthDspyError:
        raise
    except Exception as error:  # a state that does not fit may raise anything
        raise SetupError(
            f"The saved program {saved.folder / PROGRAM} does not fit the task {saved.about['task']} of "
            f"{saved.workspace} ({type(error).__name__}: {str(error)[:200]}): it is damaged, or the task has changed."
        ) from error


def _open_models(program: dspy.Module, saved: Saved, caller: Caller, student: str) -> None:
    """Open the models that a trusted program names for its predictors, other than the student."""
    from synth_dspy.models.cluster.cluster import open_cluster
    from synth_dspy.models.cluster.engine import lm_on

    named = models_in(saved.state)
    for key, predictor in program.named_predictors():
        if key in named and named[key]["model"] != student:
            options = {option: value for option, value in named[key].items() if option in SAMPLING}
            options |= {"api_base": caller.api_base, "api_key_name": caller.api_key_name}
            options["allow_http"] = caller.allow_http
            cluster = open_cluster(saved.config.executor, saved.config.workers)
            predictor.lm = lm_on(cluster, named[key]["model"], role="student", **options)


def _weights(folder: Path, name: str) -> Path:
    """The tuned weights of the program in `<run>/programs/<arm>`, relative to its run, which may have been moved."""
    path = (folder.parent.parent / name).resolve()
    if not path.exists():
        raise SetupError(
            f"The program {folder} needs its tuned weights {path}, which are missing: copy the run's folder whole, or "
            "make them again with --resume."
        )
    return path
