"""A workspace with a finished run whose student is a loopback server, for services in a process of their own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from synth_dspy.core import run as runs
from synth_dspy.core.config import compile_settings
from synth_dspy.core.workspace import task_file
from synth_dspy.pipeline.resources import open_retriever, open_saved
from synth_dspy.pipeline.saved import build_task, index_folder, save

ROOT = Path(__file__).resolve().parents[1]
TASK = '''
import dspy
from synth_dspy import Examples, Task, task


@task
def notes() -> Task:
    """Notes."""
    example = dspy.Example(question="a", answer="b").with_inputs("question")
    return Task(program=dspy.Predict("question -> answer"), source=Examples((example,)))
'''


def workspace_with_run(folder: Path, api_base: str, arms: tuple[str, ...] = ("first", "second")) -> Path:
    """Make a workspace with the task `notes` and a run of it; returns the run's folder."""
    (folder / "programs").mkdir(parents=True)
    (folder / "programs" / "__init__.py").touch()
    (folder / "programs" / "notes.py").write_text(TASK)
    model = compile_settings(task_file(folder, "notes"))
    config = model.model_validate({"models": {"student": "openai/mock", "api_base": api_base}})
    run = runs.start(folder / "runs", "notes", config, folder)
    task = build_task(folder, "notes", config)
    for arm in arms:
        program = task.program(open_saved(config, task))
        program.predictors()[0].signature = program.predictors()[0].signature.with_instructions(f"Be the {arm}.")
        save(run, arm, program, config, folder)
    return run.folder


def contracts_run(folder: Path) -> Path:
    """A run of contract_qa with two untuned arms on the embedded model, `rag` and `again`; returns its folder.

    Args:
        folder: of all runs.
    """
    config = compile_settings(task_file(ROOT, "contract_qa")).model_validate({"runs": folder})
    task = build_task(ROOT, "contract_qa", config)
    run = runs.start(folder, "contract_qa", config, ROOT)
    resources = open_saved(config, task)
    index = index_folder(ROOT, "contract_qa", config, task)
    retriever = open_retriever(index, task, task.source.read(None).documents, resources.embedder)
    for arm in ("rag", "again"):
        save(run, arm, task.program(replace(resources, retriever=retriever)), config, ROOT)
    return run.folder


def call(workspace: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a verb in a workspace."""
    return subprocess.run(
        [sys.executable, "-m", "synth_dspy", *args],
        cwd=workspace,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def environment() -> dict[str, str]:
    """This process's, in which the package is found."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def service(workspace: Path, *args: str, task: str = "notes") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in a process of its own: the process and its address."""
    command = [sys.executable, "-m", "synth_dspy", "serve", task, "--port", "0", *args]
    with subprocess.Popen(
        command, cwd=workspace, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        place = re.fullmatch(rf"serving {task} v\d+ at (http://\S+)\n", line)
        try:
            assert place is not None, f"{line}{process.communicate(timeout=10) if not line else ''}"
            yield process, place[1]
        finally:
            process.kill()
