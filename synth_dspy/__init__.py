"""synth_dspy: RAG, better prompts or fine-tuning? Declare the task once, get the evidence.

    run = synth_dspy.compile_task("contract_qa")              # or: python -m synth_dspy.compile contract_qa
    run.results                                               # scores with intervals, the verdict
    run.program("sft")(question="...", document="...")        # a ready DSPy program

These names are all that a workspace imports; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import ModelError, SetupError, SynthDspyError

if TYPE_CHECKING:
    from synth_dspy.core.knowledge import Candidate, Document, Item, Knowledge, Source, Verdict
    from synth_dspy.core.protocols import Filter, Judge, Metric, Optimizer
    from synth_dspy.core.resources import Resources
    from synth_dspy.core.task import Task, task
    from synth_dspy.domains.documents.rag import RAG
    from synth_dspy.domains.documents.source import Documents
    from synth_dspy.domains.rows.source import Examples, Rows
    from synth_dspy.evaluation.judges import FactualityJudge, ReferenceJudge
    from synth_dspy.evaluation.view import Results
    from synth_dspy.models.adapter import PlainAdapter
    from synth_dspy.models.roles import lm_for
    from synth_dspy.pipeline.compile import Run, compile_task
    from synth_dspy.pipeline.rescore import evaluate_program
    from synth_dspy.pipeline.saved import load
    from synth_dspy.training.provider import LocalProvider

__version__ = "0.1.0"

_WHERE = {
    "core.knowledge": ("Candidate", "Document", "Item", "Knowledge", "Source", "Verdict"),
    "core.protocols": ("Filter", "Judge", "Metric", "Optimizer"),
    "core.resources": ("Resources",),
    "core.task": ("Task", "task"),
    "domains.documents.rag": ("RAG",),
    "domains.documents.source": ("Documents",),
    "domains.rows.source": ("Examples", "Rows"),
    "evaluation.judges": ("FactualityJudge", "ReferenceJudge"),
    "evaluation.view": ("Results",),
    "models.adapter": ("PlainAdapter",),
    "models.roles": ("lm_for",),
    "pipeline.compile": ("Run", "compile_task"),
    "pipeline.rescore": ("evaluate_program",),
    "pipeline.saved": ("load",),
    "training.provider": ("LocalProvider",),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "RAG", "Candidate", "Document", "Documents", "Examples", "FactualityJudge", "Filter", "Item", "Judge",
    "Knowledge", "LocalProvider", "Metric", "ModelError", "Optimizer", "PlainAdapter", "ReferenceJudge", "Resources",
    "Results", "Rows", "Run", "SetupError", "Source", "SynthDspyError", "Task", "Verdict", "compile_task",
    "evaluate_program", "lm_for", "load", "task",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Lazy, because `python -m synth_dspy.<verb> --help` imports this package first.
    if name not in _MODULES:
        raise AttributeError(f"module 'synth_dspy' has no attribute {name!r}")
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    value = globals()[name] = getattr(import_module(f"synth_dspy.{_MODULES[name]}"), name)
    return value
