"""Calls in replies that arrive in pieces."""

from __future__ import annotations

import pytest

from synth_dspy.models.grammar.calls_stream import StreamEvent, split_stream

TOKEN = "<tool_call>"


def _joined(chunks: list[str]) -> list[tuple[str, str]]:
    """The events, neighbours of one kind as one."""
    joined: list[tuple[str, str]] = []
    for event in split_stream(chunks, TOKEN):
        if joined and joined[-1][0] == event.kind != "call_begins":
            joined[-1] = (event.kind, joined[-1][1] + event.text)
        else:
            joined.append((event.kind, event.text))
    return joined


REPLY = "One <tool moment.<tool_call>[f(a=1)]<tool_call>[g()]<too"
EVENTS = [
    ("text", "One <tool moment."),
    ("call_begins", ""),
    ("call", "[f(a=1)]"),
    ("call_begins", ""),
    ("call", "[g()]<too"),
]


@pytest.mark.parametrize("size", range(1, len(REPLY) + 1))
def test_a_marker_is_found_wherever_the_pieces_are_cut(size: int) -> None:
    assert _joined([REPLY[i : i + size] for i in range(0, len(REPLY), size)]) == EVENTS


def test_words_are_passed_on_as_soon_as_they_cannot_be_the_marker() -> None:
    pieces = iter(["Hello", " <", "b>", "<tool_", "call>", "[]"])
    events = split_stream(pieces, TOKEN)
    assert next(events) == StreamEvent("text", "Hello")
    assert next(events) == StreamEvent("text", " ")
    assert next(events) == StreamEvent("text", "<b>")
    assert next(events) == StreamEvent("call_begins")
    assert next(events) == StreamEvent("call", "[]")
    assert next(events, None) is None


def test_a_marker_that_begins_again_within_itself_is_found() -> None:
    assert [event.kind for event in split_stream(["a", "a", "b"], "ab")] == ["text", "call_begins"]
    assert list(split_stream([], TOKEN)) == []
    with pytest.raises(ValueError, match="empty"):
        list(split_stream(["x"], ""))
