"""synth_dspy: RAG, better prompts or fine-tuning? Declare the task once, get the evidence.

python -m synth_dspy.compile contract_qa          # the benchmark report
synth_dspy.load("runs/contract_qa/<id>/programs/bootstrap")   # a ready DSPy program
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import ModelError, SetupError, SynthDspyError

if TYPE_CHECKING:
    from synth_dspy.core.knowledge import Item
    from synth_dspy.core.task import Task, task
    from synth_dspy.pipeline.saved import load

__all__ = ["Item", "ModelError", "SetupError", "SynthDspyError", "Task", "load", "task"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Lazy, because `python -m synth_dspy.<verb> --help` imports this package first.
    if name == "load":
        from synth_dspy.models.offline import quiet_libraries

        quiet_libraries()
        from synth_dspy.pipeline.saved import load

        return load
    if name in {"Item", "Task", "task"}:
        import importlib

        return getattr(importlib.import_module("synth_dspy.core.task"), name)
    raise AttributeError(f"module 'synth_dspy' has no attribute {name!r}")
