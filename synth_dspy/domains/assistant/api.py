"""What a scoped assistant is put together from: `from synth_dspy import assistant_tools`."""

from synth_dspy.domains.assistant.house import House
from synth_dspy.domains.assistant.judge import make_assistant_judge
from synth_dspy.domains.assistant.metrics import (
    RulesKept,
    answers_right,
    declines,
    declines_right,
    helpfulness,
    length,
    scope,
)
from synth_dspy.domains.assistant.source import Topics
from synth_dspy.domains.assistant.synthesis import assistant_filters, assistant_synthesizer
from synth_dspy.models.chat_adapter import ChatTurnsAdapter

__all__ = [
    "ChatTurnsAdapter", "House", "RulesKept", "Topics", "answers_right", "assistant_filters", "assistant_synthesizer",
    "declines", "declines_right", "helpfulness", "length", "make_assistant_judge", "scope",
]  # fmt: skip
