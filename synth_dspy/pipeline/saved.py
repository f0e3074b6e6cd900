"""Programs on disk: JSON state and the declaration they belong to. Nothing is pickled.

    programs/<arm>/program.json   DSPy's state: instructions, demonstrations, the LM without keys
    programs/<arm>/about.json     the task, its settings, and where its index lies

`load` rebuilds the program from the declaration in the workspace, so the file never decides which code runs. What else
the two files name is followed where this user made them here; see `synth_dspy.pipeline.trust` and docs/trust.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from synth_dspy.core import signing
from synth_dspy.core.config import CompileConfig, Retrieval
from synth_dspy.core.errors import SetupError, SynthDspyError
from synth_dspy.core.validation import mistake
from synth_dspy.core.workspace import explain_errors, find_workspace, import_from, task_file
from synth_dspy.evaluation.answers import place_of
from synth_dspy.pipeline.saved_files import ABOUT, IN_MEMORY, PROGRAM, Saved, models_in, read_saved
from synth_dspy.pipeline.trust import SAMPLING, Caller

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.run import Run
    from synth_dspy.core.task import CompleteTask, Task

__all__ = [
    "ABOUT", "INDEXES", "PROGRAM", "Saved", "build_task", "fingerprint", "index_folder", "load", "open_program",
    "read_saved", "rebuild", "save", "tuned_model",
]  # fmt: skip

INDEXES = "indexes"
RETRIEVAL = "retrieval"
"""In `about.json`: settings of retrieval that were found for this arm."""


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a JSON value."""
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
            raise SetupError(f"{module.__file__} declares {len(declared)} tasks; give each a file of its own.")
        (function,) = declared
        task = function(**dict(getattr(config, "task", None) or ()))
        if not isinstance(task, Task):
            kind = type(task).__name__
            raise SetupError(f"{place_of(function)}: {function.__name__} gives a {kind}; it must give a Task.")
        return complete(task, workspace)


def index_folder(workspace: Path, name: str, config: CompileConfig, task: CompleteTask) -> Path:
    """Where the index lies. Runs over the same knowledge share one, so that only what changed is embedded again."""
    settings = config.model_dump(mode="json")
    known = {key: value for key, value in (settings.get("task") or {}).items() if key not in task.asks}
    if "task" not in settings:  # one in memory: two of them may have one name
        known = {"source": repr(task.source)}
    return workspace / config.runs / name / INDEXES / fingerprint({"task": known, "limit": config.limit})


def save(run: Run, arm: str, program: dspy.Module, config: CompileConfig, workspace: Path | None = None) -> Path:
    """Write a compiled program into its run, signed for the workspace, by default the current folder's.

    Returns:
        The folder that `load` takes.
    """
    import dspy

    from synth_dspy.domains.documents.search import retriever_of, tuned

    state = program.dump_state() | {"metadata": {"dependency_versions": {"dspy": dspy.__version__}}}
    run.write_json(f"programs/{arm}/{PROGRAM}", state)
    about: dict[str, Any] = {"task": run.task, "arm": arm, "config": config.model_dump(mode="json")}
    if run.in_memory:
        about[IN_MEMORY] = True
    retriever = retriever_of(program)
    if retriever is not None and (found := tuned(retriever.settings)) != tuned(config.retrieval):
        about[RETRIEVAL] = found
    trained = tuned_model(program)
    if trained is not None:
        about["weights"] = os.path.relpath(trained, run.folder)
    try:
        about["signature"] = signing.sign(workspace or find_workspace(), about, state)
    except SetupError:  # made outside of any workspace
        about["signature"] = None
    run.write_json(f"programs/{arm}/{ABOUT}", about)
    return run.folder / "programs" / arm


def tuned_model(program: dspy.Module, student: dspy.LM | None = None) -> Path | None:
    """The weights (a merged file, or an adapter's folder) of a program whose LM came of a training; None for any other.

    Args:
        program: perhaps tuned.
        student: the LM that it began with, which may itself have come of an earlier training.

    Raises:
        Exception: a training failed, and what it raised stands in the LM's place, as DSPy's own providers leave it.
    """
    from synth_dspy.training.provider import weights_of

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
        trust: follow what a program that somebody else made names: files to read or run, databases, models. The error
            that comes without lists it. Addresses and keys are not among it.
        workspace: the folder with its declaration; by default the one that its run notes, else the nearest one above
            it, else above the current folder.
        program: the DSPy program, or the `Task`, that was compiled, where no task file declares it.
        api_base: address of the server of its models, in place of the one that it names.
        api_key_name: the environment variable that holds the key for it, in place of the one that it names.
        allow_http: send that key over http:// to another machine too.

    Raises:
        SetupError: the folder holds no program, its task is gone, it names code that is not this package's, or asks for
            more than the arguments allow.
    """
    caller = Caller(trust, api_base, api_key_name, allow_http)
    return open_program(Path(path), caller, workspace=workspace, program=program)


def open_program(
    path: Path, caller: Caller, *, workspace: Path | None = None, program: dspy.Module | Task | None = None
) -> dspy.Module:
    """`load` for a caller who may sit at a command line."""
    return rebuild(read_saved(path, caller, workspace=workspace, in_memory=program is not None), caller, program)


def rebuild(saved: Saved, caller: Caller, given: dspy.Module | Task | None = None) -> dspy.Module:
    """The program that was read, on its models and its index; `given` in place of its task's.

    Raises:
        SetupError: a model or its knowledge cannot be opened, or the state does not fit the declaration.
    """
    from synth_dspy.pipeline.opening import open_retriever, open_saved
    from synth_dspy.training.provider import tuned_lm

    name, config = saved.about["task"], saved.config
    task = build_task(saved.workspace, name, config) if given is None else _task_of(given)
    resources = open_saved(config, task)
    documents = task.source.read(config.limit).documents
    index = index_folder(saved.workspace, name, config, task)
    retriever = open_retriever(index, task, documents, resources.embedder, _retrieval(saved))
    program = task.program(replace(resources, retriever=retriever))
    if given is not None:
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


def _retrieval(saved: Saved) -> Retrieval:
    """How a saved program searches: as its run did, but for what was found for this arm."""
    from synth_dspy.domains.documents.search import TUNED

    found, damaged = saved.about.get(RETRIEVAL, {}), f"The saved program {saved.folder / ABOUT} is damaged"
    if not isinstance(found, dict) or found.keys() - set(TUNED):  # where the index is kept is the run's to say
        raise SetupError(f"{damaged}: its {RETRIEVAL} holds other settings than {', '.join(TUNED)}.")
    try:
        return Retrieval.model_validate(saved.config.retrieval.model_dump() | found)
    except ValidationError as error:
        raise SetupError(f"{damaged}: {RETRIEVAL}.{mistake(error, Retrieval)}") from None


def _task_of(declared: dspy.Module | Task) -> CompleteTask:
    """A task in memory; of a program alone, nothing is learned or scored any more."""
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
    """Refuse a program in memory that is not the one that was saved: DSPy puts any state into any predictor."""
    ours = {name: len(predictor.signature.fields) for name, predictor in program.named_predictors()}
    theirs = {
        name: len((state.get("signature") or {}).get("fields") or [])
        for name, state in saved.state.items()
        if name != "metadata"
    }
    if ours != theirs:
        raise SetupError(
            f"The saved program {saved.folder} is another one than that given: its predictors are {', '.join(theirs)}, "
            f"with {', '.join(map(str, theirs.values()))} fields; give the program that was compiled."
        )


def _load_state(program: dspy.Module, saved: Saved) -> None:
    """Put the saved state into a program; models that somebody else saved are left out, with their addresses."""
    state = {
        key: value if saved.own or key == "metadata" else {**value, "lm": None} for key, value in saved.state.items()
    }
    try:
        program.load_state(state, allow_unsafe_lm_state=saved.own)
    except SynthDspyError:
        raise
    except Exception as error:  # whatever a file that does not fit brings about
        raise SetupError(
            f"The saved program {saved.folder / PROGRAM} does not fit the task {saved.about['task']} of "
            f"{saved.workspace} ({type(error).__name__}: {str(error)[:200]}): it is damaged, or the task has changed."
        ) from error


def _open_models(program: dspy.Module, saved: Saved, caller: Caller, student: str) -> None:
    """Open the models, other than the student, that a trusted program names for its predictors."""
    from synth_dspy.models import roles

    named = models_in(saved.state)
    for key, predictor in program.named_predictors():
        if key in named and named[key]["model"] != student:
            options = {option: value for option, value in named[key].items() if option in SAMPLING}
            options |= {"api_base": caller.api_base, "api_key_name": caller.api_key_name}
            options["allow_http"] = caller.allow_http
            predictor.lm = roles.lm_for(named[key]["model"], role="student", **options)


def _weights(folder: Path, name: str) -> Path:
    """The tuned weights of the program in `<run>/programs/<arm>`: beside it, wherever the run lies now."""
    path = (folder.parent.parent / name).resolve()
    if not path.exists():
        raise SetupError(
            f"The program {folder} needs its tuned weights {path}, which are missing: copy the run's folder whole, or "
            "make them again with --resume."
        )
    return path
