"""Where a call begins in a reply that arrives in pieces: at a marker token, which may be cut over several pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A piece of a reply: words for the user, the marker, or text of the call that it began.

    Attributes:
        kind: `text`, `call_begins` (once for every marker) or `call`.
        text: The piece, without markers; empty for `call_begins`.
    """

    kind: Literal["text", "call_begins", "call"]
    text: str = ""


def split_stream(chunks: Iterable[str], token: str) -> Iterator[StreamEvent]:
    """Tell words from calls as they arrive. Whatever cannot be the marker's beginning is passed on at once.

    Args:
        chunks: The reply, cut anywhere.
        token: The marker, `<tool_call>` for example. What follows it is a call, up to the next marker or the end.

    Raises:
        ValueError: The marker is empty.
    """
    if not token:
        raise ValueError("the token that begins a call is empty")
    kind: Literal["text", "call"] = "text"
    held = ""
    for chunk in chunks:
        held += chunk
        while (place := held.find(token)) >= 0:
            if place:
                yield StreamEvent(kind, held[:place])
            yield StreamEvent("call_begins")
            held, kind = held[place + len(token) :], "call"
        keep = next((size for size in range(len(token) - 1, 0, -1) if held.endswith(token[:size])), 0)
        ready, held = held[: len(held) - keep], held[len(held) - keep :]
        if ready:
            yield StreamEvent(kind, ready)
    if held:
        yield StreamEvent(kind, held)
