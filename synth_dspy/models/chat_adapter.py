"""Chat prompts: the question as the user's own words, and what was said before as turns of its own.

A program for conversations has two inputs, `conversation` (a transcript, one `Speaker: words` a line, or nothing) and
one more, the user's last words. What the model is sent is then what any chat server would send it, and a model tuned on
such rows needs no program to be of use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synth_dspy.models.adapter import PlainAdapter

CONVERSATION = "conversation"
_SPEAKERS = {"customer": "user", "user": "user", "assistant": "assistant"}


class ChatTurnsAdapter(PlainAdapter):
    """As `PlainAdapter`, for a signature with the inputs `conversation` and one other, and one output."""

    def format(self, signature: Any, demos: list[dict[str, Any]], inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """System, demonstrations, the conversation's turns, the user's words."""
        *earlier_turns, question = super().format(signature, demos, inputs)
        return [*earlier_turns, *turns(str(inputs.get(CONVERSATION) or "")), question]

    def input_lines(self, signature: Any, inputs: Mapping[str, Any]) -> list[str]:
        """The user's words without a label; the conversation has turns of its own."""
        return [str(inputs[name]).strip() for name in signature.input_fields if name in inputs and name != CONVERSATION]

    def format_demos(self, signature: Any, demos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Demonstrations as chat turns, each after its own conversation."""
        demonstrations: list[dict[str, Any]] = []
        for demo in demos:
            messages = super().format_demos(signature, [demo])
            demonstrations += [*turns(str(demo.get(CONVERSATION) or "")), *messages] if messages else []
        return demonstrations


def turns(transcript: str) -> list[dict[str, str]]:
    """Chat messages of a transcript; a line without a speaker goes on with what was said before it.

    Lines of one speaker in a row are one message, so that user and assistant take turns.
    """
    messages: list[dict[str, str]] = []
    for line in transcript.splitlines():
        speaker, colon, words = line.partition(":")
        role = _SPEAKERS.get(speaker.strip().lower()) if colon else None
        if role and (not messages or messages[-1]["role"] != role):
            messages.append({"role": role, "content": words.strip()})
        elif messages and line.strip():
            messages[-1]["content"] += "\n" + (words if role else line).strip()
    return messages
