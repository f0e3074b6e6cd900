"""Programs on disk: JSON state and the declaration they belong to. Nothing is pickled.

    programs/<arm>/program.json   DSPy's state: instructions, demonstrations, the LM without keys
    programs/<arm>/about.json     the task, its settings, and where its index lies

`load` rebuilds the program from the declaration in the workspace, so the file never decides which code runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.config import CompileConfig, compile_settings
from synth_dspy.errors import SetupError
from synth_dspy.workspace import import_from, task_file, workspace_of

if TYPE_CHECKING:
    import dspy

    from synth_dspy.run import Run
    from synth_dspy.task import Task

PROGRAM = "program.json"
ABOUT = "about.json"
INDEXES = "indexes"
ENGINES = frozenset({"synth_dspy.lms.engine:EmbeddedEngine", "synth_dspy.lms.engine:AsyncEmbeddedEngine"})
"""The only engine classes that a saved program may name."""


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def build_task(workspace: Path, name: str, config: CompileConfig) -> Task:
    """Import `programs/<name>.py` and build its task with the run's `--task.` settings.

    Raises:
        SetupError: no such task, or the file declares none.
    """
    from synth_dspy.task import Task

    task_file(workspace, name)
    module = import_from(workspace, f"programs.{name}")
    for value in vars(module).values():
        if getattr(value, "__synth_dspy_task__", False) and value.__module__ == module.__name__:
            settings = getattr(config, "task", None)
            task = value(**({} if settings is None else dict(settings)))
            assert isinstance(task, Task)
            return task
    raise SetupError(f"{module.__file__} declares no task: it needs one function decorated with @task.")


def index_folder(workspace: Path, name: str, config: CompileConfig, task: Task) -> Path:
    """Where the index lies. Runs over the same knowledge share one, so that only what changed is embedded again."""
    settings = config.model_dump(mode="json")
    known = {key: value for key, value in (settings.get("task") or {}).items() if key not in task.asks}
    return workspace / config.runs / name / INDEXES / fingerprint({"task": known, "limit": config.limit})


def save(run: Run, arm: str, program: dspy.Module, config: CompileConfig) -> Path:
    """Write a compiled program into its run.

    Returns:
        The folder that `load` takes.
    """
    import dspy

    state = program.dump_state() | {"metadata": {"dependency_versions": {"dspy": dspy.__version__}}}
    run.write_json(f"programs/{arm}/{PROGRAM}", state)
    about = {"task": run.task, "arm": arm, "config": config.model_dump(mode="json")}
    trained = tuned_model(program)
    if trained is not None:
        about["weights"] = os.path.relpath(trained, run.folder)
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


def load(path: str | Path, *, workspace: Path | None = None) -> dspy.Module:
    """A ready program from a run: `load("runs/contract_qa/<id>/programs/bootstrap")(question=..., document=...)`.

    Args:
        path: the program's folder.
        workspace: the folder with its declaration; by default the nearest one above `path`, else above the current
            folder.

    Raises:
        SetupError: the folder holds no program, its task is gone, or the file names code that is not this package's.
    """
    from synth_dspy.opening import open_retriever, open_saved
    from synth_dspy.training.provider import tuned_lm

    folder = Path(path).expanduser().resolve()
    state, about = _read(folder / PROGRAM), _read(folder / ABOUT)
    _refuse_foreign_code(state, folder / PROGRAM)
    here = workspace or workspace_of(folder)
    model = compile_settings(task_file(here, about["task"]))
    config = model.model_validate(about["config"])
    task = build_task(here, about["task"], config)
    resources = open_saved(config, task)
    documents = task.source.read(config.limit).documents
    index = index_folder(here, about["task"], config, task)
    retriever = open_retriever(index, task, documents, resources.embedder)
    program = task.program(replace(resources, retriever=retriever))
    program.load_state(state, allow_unsafe_lm_state=True)
    student = resources.student
    if "weights" in about:
        student = tuned_lm(student, _weights(folder, about["weights"]))
        program.set_lm(student)
    for predictor in program.predictors():
        if predictor.lm is None or predictor.lm.model == student.model:
            predictor.lm = student  # as the configuration opens it: its address, its key from the environment
    return program


def _weights(folder: Path, name: str) -> Path:
    """The tuned weights of the program in `<run>/programs/<arm>`: beside it, wherever the run lies now."""
    path = (folder.parents[1] / name).resolve()
    if not path.exists():
        raise SetupError(
            f"The program {folder} needs its tuned weights {path}, which are missing: copy the run's folder whole, or "
            "make them again with --resume."
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SetupError(
            f"There is no saved program in {path.parent}: {path.name} is missing; {_instead(path.parent)}."
        ) from error
    except (OSError, ValueError) as error:
        raise SetupError(f"The saved program {path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise SetupError(f"The saved program {path} is not a JSON object.")
    return value


def _instead(folder: Path) -> str:
    """What to name instead of a folder that is no program: where it is a run, one of its programs."""
    found = [*folder.glob(f"programs/*/{PROGRAM}"), *folder.glob(f"*/{PROGRAM}")]
    if not found:
        return "name a folder runs/<task>/<id>/programs/<arm>"
    return f"name one of those in it: {', '.join(sorted(str(path.parent.relative_to(folder)) for path in found))}"


def _refuse_foreign_code(state: Mapping[str, Any], path: Path) -> None:
    """A state may name DSPy's own LM class and this package's engine; any other import path is refused."""
    for predictor in state.values():
        lm = predictor.get("lm") if isinstance(predictor, dict) else None
        if not isinstance(lm, dict):
            continue
        named = [lm[key]["class"] for key in ("engine", "async_engine") if isinstance(lm.get(key), dict)]
        foreign = [name for name in named if name not in ENGINES]
        if lm.get("_dspy_lm_class", "dspy.clients.lm.LM") not in ("dspy.clients.lm.LM",):
            foreign.append(str(lm["_dspy_lm_class"]))
        if foreign:
            raise SetupError(
                f"The saved program {path} asks to import {', '.join(foreign)}; only this package's own engine is "
                "loaded from a file. Remove its `lm` entry and set the LM yourself."
            )
