"""Chat prompts: the conversation so far as chat turns, then the user's last message.

A program for conversations has two inputs: `conversation` (a transcript with one `Speaker: words` per line, or empty)
and the user's last message. The model then gets the same messages as from any chat server, and a model tuned on such
rows can be used without the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synth_dspy.models.adapter import PlainAdapter

CONVERSATION = "conversation"
_SPEAKERS = {"customer": "user", "user": "user", "assistant": "assistant"}


class ChatTurnsAdapter(PlainAdapter):
    """Like `PlainAdapter`, for a signature with the input `conversation`, one other input, and one output."""

    def format(self, signature: Any, demos: list[dict[str, Any]], inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """System message, demonstrations, the conversation's turns, the user's message."""
        *earlier_turns, question = super().format(signature, demos, inputs)
        return [*earlier_turns, *turns(str(inputs.get(CONVERSATION) or "")), question]

    def input_lines(self, signature: Any, inputs: Mapping[str, Any]) -> list[str]:
        """The user's message without a label; the conversation is rendered as turns."""
        return [str(inputs[name]).strip() for name in signature.input_fields if name in inputs and name != CONVERSATION]

    def format_demos(self, signature: Any, demos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Demonstrations as chat turns, each preceded by its conversation."""
        demonstrations: list[dict[str, Any]] = []
        for demo in demos:
            messages = super().format_demos(signature, [demo])
            demonstrations += [*turns(str(demo.get(CONVERSATION) or "")), *messages] if messages else []
        return demonstrations


def turns(transcript: str) -> list[dict[str, str]]:
    """Parse a transcript into chat messages; a line without a speaker continues the message before it.

    Consecutive lines of one speaker become one message, so that user and assistant alternate.
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
