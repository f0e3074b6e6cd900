"""The parts of a task about functions: `from synth_dspy import function_tools`."""

from synth_dspy.domains.functions.caller import FunctionCaller
from synth_dspy.domains.functions.judge import CallJudge, call_metrics
from synth_dspy.domains.functions.planner import parse_mix
from synth_dspy.domains.functions.source import Functions
from synth_dspy.domains.functions.synthesis import function_filters, function_synthesizer

__all__ = [
    "CallJudge", "FunctionCaller", "Functions", "call_metrics", "function_filters", "function_synthesizer", "parse_mix",
]  # fmt: skip
