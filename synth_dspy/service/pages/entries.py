"""The fields of a form for a program's inputs, and the inputs in a form that was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from synth_dspy.service.errors import ServiceError
from synth_dspy.service.inputs import Shape

PREFIX = "in."
"""Before the name of an input, in the name of its field."""
_NUMBERS = frozenset({"integer", "number"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A field of the form.

    Attributes:
        name: of the input.
        required: an empty field of an input that is not required is left out.
        kind: a text is sent as it is, a choice is one of `options`; everything else is written as JSON.
        suggestions: of texts.
    """

    name: str
    required: bool
    kind: Literal["text", "number", "choice", "json"]
    options: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """The field's name in the form."""
        return PREFIX + self.name

    @property
    def label(self) -> str:
        """What a person reads."""
        return self.name.replace("_", " ").strip().capitalize()

    def value(self, typed: str) -> Any:
        """The input.

        Raises:
            ServiceError: it is not JSON.
        """
        if self.kind == "text" or typed in self.options:
            return typed
        try:
            return json.loads(typed)
        except ValueError:
            example = {"number": "12", "choice": "true"}.get(self.kind, '["a", "b"]')
            raise ServiceError(422, f"{self.label} is not JSON, such as {example}.", param=self.name) from None


def entries(shape: Shape) -> list[Entry]:
    """The fields for a program's inputs: the question first, then those that are required."""
    first = sorted(shape.names, key=lambda name: (name != "question", name not in shape.required))
    return [
        replace(_entry(name, name in shape.required, shape.schema), suggestions=shape.suggestions.get(name, ()))
        for name in first
    ]


def inputs_of(form: Mapping[str, str], shape: Shape) -> dict[str, Any]:
    """A program's inputs, as JSON; the program's own check follows.

    Raises:
        ServiceError: one is missing, or is not JSON.
    """
    inputs = {}
    for entry in entries(shape):
        typed = form.get(entry.field, "")
        if typed.strip():
            inputs[entry.name] = entry.value(typed)
        elif entry.required:
            raise ServiceError(422, f"{entry.label} is empty.", param=entry.name)
    return inputs


def _entry(name: str, required: bool, schema: Mapping[str, Any]) -> Entry:
    kinds = list(_kinds(schema.get("properties", {}).get(name, {}), schema.get("$defs", {})))
    types = {kind.get("type") for kind in kinds}
    options = tuple(option for kind in kinds for option in kind.get("enum", [kind["const"]] if "const" in kind else []))
    if options and all(isinstance(option, str) for option in options):
        return Entry(name, required, "choice", options)
    if not types or "string" in types or None in types:
        return Entry(name, required, "text")
    if types <= _NUMBERS:
        return Entry(name, required, "number")
    return Entry(name, required, "choice", ("true", "false")) if types == {"boolean"} else Entry(name, required, "json")


def _kinds(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The types that an input may have, without null."""
    if "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _kinds(each, defs)
    elif "$ref" in schema:
        yield from _kinds(defs.get(str(schema["$ref"]).rpartition("/")[2], {}), defs)
    elif schema.get("type") != "null":
        yield schema
