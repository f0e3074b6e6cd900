"""A workspace with a saved program whose student is behind an OpenAI-compatible server."""

from __future__ import annotations

from pathlib import Path
from shutil import copy, copytree

ROOT = Path(__file__).resolve().parents[1]
ASK = '''
"""Questions."""

import dspy

from synth_dspy.core.knowledge import Item, Knowledge
from synth_dspy.core.task import Task, task

NAMES = ("Amazon", "Danube", "Ganges", "Mekong", "Niger", "Rhine")


class Questions:
    def read(self, limit=None):
        labelled = [
            dspy.Example(
                id=name, group=name, category="", origin="gold", answer_type="place", spans=[],
                question=f"Where does the {name} end?", answer="sea", references=["sea"],
            ).with_inputs("question")
            for name in NAMES
        ]
        return Knowledge([Item(name, name, name) for name in NAMES], labelled)


class Ask(dspy.Module):
    def __init__(self, resources):
        super().__init__()
        self.ask = dspy.Predict("question, times: int -> answer")

    def forward(self, question: str, times: int = 1) -> dspy.Prediction:
        reply = self.ask(question=question, times=times)
        ratio = float(question) if question in ("nan", "-inf") else 0.5
        return dspy.Prediction(answer=reply.answer, times=times, words=reply.answer.split(), ratio=ratio)


@task
def ask() -> Task:
    """Ask a question."""
    return Task(program=Ask, source=Questions())
'''


def workspace_with_program(
    folder: Path, model: str = "openai/mock", task: str = "ask", api_base: str = "", code: str = ASK
) -> Path:
    """Make a workspace and a run in it, as a compile would have left it.

    Args:
        folder: the workspace.
        model: of the student.
        task: `ask`, or the name of one of the project's own tasks.
        api_base: address of the student's server.
        code: the file of the task `ask`.

    Returns:
        The folder of the saved program.
    """
    from synth_dspy.core import run as runs
    from synth_dspy.core.config import Models, compile_settings
    from synth_dspy.pipeline.resources import open_saved
    from synth_dspy.pipeline.saved import build_task, save

    (folder / "programs").mkdir(parents=True)
    (folder / "programs" / "__init__.py").touch()
    if task == "ask":
        (folder / "programs" / "ask.py").write_text(code)
    else:
        copy(ROOT / "programs" / f"{task}.py", folder / "programs")
        copytree(ROOT / "data", folder / "data")
    settings = compile_settings(folder / "programs" / f"{task}.py")
    models = Models(student=model, teacher=model, api_base=api_base or "http://127.0.0.1:9/v1")
    config = settings(models=models)
    run = runs.start(folder / "runs", task, config, folder)
    built = build_task(folder, task, config)
    resources = open_saved(config, built)
    program = built.program(resources)
    program.set_lm(resources.student)
    return save(run, "zero_shot", program, config, folder, declared=program)
