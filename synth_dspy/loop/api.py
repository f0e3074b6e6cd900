"""What watching, comparing and promoting programs is put together from: `from synth_dspy import loop_tools`."""

from synth_dspy.loop.feedback import feedback_rows
from synth_dspy.loop.gate import Decision, Pair, Policy, decide
from synth_dspy.loop.monitor import Monitor, alarms, describe
from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store
from synth_dspy.models.roles import embedder_for

__all__ = [
    "Decision", "Feedback", "Monitor", "Pair", "Policy", "Registry", "Request", "Store", "alarms", "decide", "describe",
    "embedder_for", "feedback_rows",
]  # fmt: skip
