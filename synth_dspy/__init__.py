"""synth_dspy: RAG, better prompts or fine-tuning? Declare the task once, get the evidence.

    run = synth_dspy.compile_task("contract_qa")              # or: python -m synth_dspy.compile contract_qa
    run.results                                               # scores with intervals, the verdict
    run.program("sft")(question="...", document="...")        # a ready DSPy program

These names are all that a workspace imports; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import AwaitingReview, ModelError, SetupError, SynthDspyError

if TYPE_CHECKING:
    from synth_dspy.core.config import DatabaseUrl
    from synth_dspy.core.knowledge import Candidate, Document, Item, Knowledge, Source, Verdict
    from synth_dspy.core.protocols import Filter, Judge, Metric, Optimizer
    from synth_dspy.core.resources import Resources
    from synth_dspy.core.task import Task, task
    from synth_dspy.domains.assistant import api as assistant_tools
    from synth_dspy.domains.documents import api as document_tools
    from synth_dspy.domains.documents.rag import RAG
    from synth_dspy.domains.documents.source import Documents
    from synth_dspy.domains.functions import api as function_tools
    from synth_dspy.domains.rows.source import Examples, Rows
    from synth_dspy.domains.tables import api as table_tools
    from synth_dspy.evaluation import metrics
    from synth_dspy.evaluation.judges import Factuality, FactualityJudge, ReferenceJudge, make_judge
    from synth_dspy.evaluation.view import Results
    from synth_dspy.loop import api as loop_tools
    from synth_dspy.models.adapter import PlainAdapter
    from synth_dspy.models.roles import lm_for
    from synth_dspy.pipeline.compile import Run, compile_task
    from synth_dspy.pipeline.rescore import evaluate_program
    from synth_dspy.pipeline.saved import load
    from synth_dspy.training import recipes
    from synth_dspy.training.provider import LocalProvider

__version__ = "0.1.0"

_WHERE = {
    "core.config": ("DatabaseUrl",),
    "core.knowledge": ("Candidate", "Document", "Item", "Knowledge", "Source", "Verdict"),
    "core.protocols": ("Filter", "Judge", "Metric", "Optimizer"),
    "core.resources": ("Resources",),
    "core.task": ("Task", "task"),
    "domains.documents.rag": ("RAG",),
    "domains.documents.source": ("Documents",),
    "domains.rows.source": ("Examples", "Rows"),
    "evaluation.judges": ("Factuality", "FactualityJudge", "ReferenceJudge", "make_judge"),
    "evaluation.view": ("Results",),
    "models.adapter": ("PlainAdapter",),
    "models.roles": ("lm_for",),
    "pipeline.compile": ("Run", "compile_task"),
    "pipeline.rescore": ("evaluate_program",),
    "pipeline.saved": ("load",),
    "training.provider": ("LocalProvider",),
}
_NAMESPACES = {
    "assistant_tools": "domains.assistant.api",
    "document_tools": "domains.documents.api",
    "function_tools": "domains.functions.api",
    "loop_tools": "loop.api",
    "metrics": "evaluation.metrics",
    "recipes": "training.recipes",
    "table_tools": "domains.tables.api",
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "RAG", "AwaitingReview", "Candidate", "DatabaseUrl", "Document", "Documents", "Examples", "Factuality",
    "FactualityJudge", "Filter", "Item", "Judge", "Knowledge", "LocalProvider", "Metric", "ModelError", "Optimizer",
    "PlainAdapter", "ReferenceJudge", "Resources", "Results", "Rows", "Run", "SetupError", "Source", "SynthDspyError",
    "Task", "Verdict", "assistant_tools", "compile_task", "document_tools", "evaluate_program", "function_tools",
    "lm_for", "load", "loop_tools", "make_judge", "metrics", "recipes", "table_tools", "task",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # Lazy, because `python -m synth_dspy.<verb> --help` imports this package first.
    if name not in _MODULES and name not in _NAMESPACES:
        raise AttributeError(f"module 'synth_dspy' has no attribute {name!r}")
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries()
    if name in _NAMESPACES:
        value: Any = import_module(f"synth_dspy.{_NAMESPACES[name]}")
    else:
        value = getattr(import_module(f"synth_dspy.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
