"""What a request is written about: calls that are drawn and made, and what a request for them must say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dspy

from synth_dspy.core.knowledge import Item
from synth_dspy.domains.functions.details import Must
from synth_dspy.domains.functions.prompts import Turn
from synth_dspy.domains.functions.schema import Call, Function


@dataclass(frozen=True, slots=True)
class FunctionItem(Item):
    """A function to call."""

    function: Function


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An argument that a request must not say, and texts that it could be."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FirstTurns:
    """How a conversation begins, and what its last message is to the turns before.

    Attributes:
        kind: of the last message: it wants the same with another value, it answers the assistant's question, or it is
            mere talk.
        first: the call that the first message is written from.
        lacks: what the first message leaves out, where the assistant asks back.
        reply: what the assistant asks then.
        last: the last message, where no teacher writes it.
    """

    kind: Literal["follow-up", "answer", "talk"]
    first: Call
    lacks: LeftOut | None = None
    reply: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class RequestUnit:
    """Calls to be requested in words.

    Attributes:
        id: the category, its number and a hash of the calls.
        group: that of the function called first.
        text: the first call.
        category: one of `planner.CATEGORIES`.
        about: the calls that the request is written from.
        expected: the calls that it should lead to.
        offered: names of the functions to choose from.
        must: the values that it must say.
        wanted: what it asks for, in words.
        shots: demonstrations.
        results: what the expected calls gave.
        system: a system prompt, or "".
        left_out: an argument that must not be said.
        first_turns: how the conversation begins that the request ends.
        conversation: its turns, once they are written.
    """

    id: str
    group: str
    text: str
    category: str
    about: Sequence[Call]
    expected: Sequence[Call]
    offered: Sequence[str]
    must: Sequence[Must]
    wanted: str
    shots: Sequence[dspy.Example] = ()
    results: Sequence[Mapping[str, Any]] = ()
    system: str = ""
    left_out: LeftOut | None = None
    first_turns: FirstTurns | None = None
    conversation: tuple[Turn, ...] = ()
