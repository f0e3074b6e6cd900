"""Functions and conversations as prompts show them, in few tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synth_dspy.domains.functions.schema import Call, Function
from synth_dspy.domains.functions.syntax import Syntax, annotation, render

Turn = Mapping[str, Any]
"""One turn of a conversation: `role` (user, assistant or tool) with `content`, or `calls` that the assistant made."""
_LONG = 16  # characters of a type from which on it is written only once


def show_functions(functions: Iterable[Function]) -> str:
    """Functions as a small model sees them: a signature and a sentence each, with notes if a type says little."""
    return "\n".join(_line(function) for function in functions)


def show_request(question: str, conversation: Sequence[Turn], syntax: Syntax) -> str:
    """A question with the turns before it."""
    if not conversation:
        return question
    lines = []
    for turn in conversation:
        if "calls" in turn:
            calls = [call if isinstance(call, Call) else Call.from_json(call) for call in turn["calls"]]
            lines.append(f"Assistant: {render(calls, syntax)}")
        else:
            name = {"tool": "Result"}.get(str(turn["role"]), str(turn["role"]).capitalize())
            lines.append(f"{name}: {' '.join(str(turn.get('content') or '').split())}")
    return "\n".join([*lines, f"User: {question}"])


def first_sentence(text: str) -> str:
    """The first sentence of a description, without its full stop."""
    flat = " ".join(text.split())
    return flat.split(". ")[0].split("; ")[0].rstrip(".")


def _line(function: Function) -> str:
    definitions = function.parameters.get("$defs") or {}
    kinds: list[str] = []
    parts, notes = [], []
    for name, schema in function.properties.items():
        kind = annotation(schema, definitions).replace('"', "")
        if len(kind) > _LONG and kind in kinds:  # such as from_unit and to_unit: a small model's context is short
            kind = f"as {list(function.properties)[kinds.index(kind)]}"
        kinds.append(kind)
        optional = "" if name in function.required else "?"
        parts.append(f"{name}{optional}: {kind}")
        if kind in ("str", "str | None", "Any") and schema.get("description"):
            notes.append(f"{name}: {first_sentence(str(schema['description']))}.")
    return f"{function.name}({', '.join(parts)}) {' '.join([first_sentence(function.description) + '.', *notes])}"
