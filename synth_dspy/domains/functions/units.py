"""Units of work: calls that were drawn and executed, and what a request for them must state."""

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
    """An argument that a request must not state, and texts that its value could be."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FirstTurns:
    """How a conversation begins, and how its last message relates to the turns before.

    Attributes:
        kind: kind of the last message: it changes a value, it answers the assistant's question, or it is
            small talk.
        first: the call that the first message requests.
        lacks: the argument that the first message leaves out, if the assistant then asks for it.
        reply: the assistant's question.
        last: the last message, if the teacher does not write it.
    """

    kind: Literal["follow-up", "answer", "talk"]
    first: Call
    lacks: LeftOut | None = None
    reply: str = ""
    last: str = ""


@dataclass(frozen=True, slots=True)
class RequestUnit:
    """Calls to write a request for.

    Attributes:
        id: the category, a number and a hash of the calls.
        group: the group of the function called first.
        text: the first call.
        category: one of `planner.CATEGORIES`.
        about: the calls that the request is written from.
        expected: the calls that the request should lead to.
        offered: names of the functions to choose from.
        must: the values that the request must state.
        wanted: the calls in words, as the teacher reads them.
        shots: demonstrations.
        results: the outcomes of the expected calls.
        system: a system prompt, or "".
        left_out: an argument that must not be stated.
        first_turns: how the conversation begins whose last message is the request.
        conversation: the turns before the request, once they are written.
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
