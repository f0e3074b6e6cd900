"""The inputs of a task's program, as a schema that a request's JSON is checked against."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NotRequired

import dspy
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from synth_dspy.core.text import is_blank
from synth_dspy.core.validation import as_clause, can_be_shown, suggest
from synth_dspy.domains.documents.rag import RetrieveAndAnswer
from synth_dspy.pipeline.answering import Answering
from synth_dspy.pipeline.program_inputs import declared_inputs, programs_of
from synth_dspy.service.errors import ServiceError

_SUGGESTED = 1000
"""A choice of more documents is no help."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What there is to know of a program's inputs and its answer without their types.

    Attributes:
        names: of all.
        required: of those that have no default.
        texts: of those that are texts.
        schema: the JSON schema; empty where a type has none.
        suggestions: values that an input may have, where they can be listed: the documents.
        typed: whether the answer is of a type other than text, which a corrected one is checked against.
        choices: the values that such an answer may have, where the type lists them.
    """

    names: tuple[str, ...]
    required: frozenset[str]
    texts: frozenset[str]
    schema: Mapping[str, Any]
    suggestions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    typed: bool = False
    choices: tuple[str, ...] = ()


class Inputs:
    """A program's inputs, from its signature or its `forward`.

    Attributes:
        shape: their names.
    """

    def __init__(self, program: dspy.Module) -> None:
        types, required = declared_inputs(program)
        inner = programs_of(program)[0]
        inner = inner.program if isinstance(inner, Answering) else inner
        fields = {name: kind if name in required else NotRequired[kind] for name, kind in types.items()}
        shape = with_config(ConfigDict(extra="forbid", arbitrary_types_allowed=True))(
            TypedDict("Inputs", fields)  # type: ignore[operator]
        )
        self._adapter: TypeAdapter[Any] = TypeAdapter(shape)
        try:
            schema = self._adapter.json_schema()
        except Exception:  # a type of the user's own
            schema = {}
        texts = frozenset(name for name, kind in types.items() if kind is str)
        self.shape = Shape(tuple(types), required, texts, schema, _suggestions(inner))
        searches = isinstance(inner, RetrieveAndAnswer)
        self._id_of = getattr(inner.retriever, "id_of", None) if searches else None

    def check(self, given: Any) -> dict[str, Any]:
        """The inputs, converted to their types.

        Raises:
            ServiceError: one is missing, has a wrong type or does not exist, or a text that must have a value is empty,
                as `apply` has it; names it.
        """
        try:
            checked: dict[str, Any] = self._adapter.validate_python(given)
        except ValidationError as error:
            raise refusal(error, list(self.shape.names)) from None
        for name in self.shape.names:
            if name in self.shape.required & self.shape.texts and is_blank(checked[name]):
                raise ServiceError(422, f"{name} is empty.", param=name)
        if self._id_of is not None and checked.get("document") is not None:
            with suppress(ValueError):  # which the program explains
                checked["document"] = self._id_of(checked["document"])  # one name for each, in what is kept
        return checked


def refusal(error: ValidationError, names: list[str] | None = None) -> ServiceError:
    """Pydantic's first error as a refusal.

    Args:
        error: what was raised.
        names: those that exist, for suggestions.
    """
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        return ServiceError(400, f"The body is not JSON: {first['ctx']['error']}.")
    if first["type"] == "union_tag_invalid":
        name, kinds = (str(first["ctx"][key]).replace("'", "") for key in ("discriminator", "expected_tags"))
        return ServiceError(422, f"{name} is {first['ctx']['tag']!r}: it should be one of {kinds}.", param=name)
    if first["type"] == "union_tag_not_found":
        name = str(first["ctx"]["discriminator"]).strip("'")
        return ServiceError(422, f"{name} is missing.", param=name)
    if first["type"] == "missing":
        return ServiceError(422, f"{where} is missing.", param=where)
    if first["type"] == "extra_forbidden" and names:
        return ServiceError(422, f"There is no input {where}: {suggest(where, names)}", param=where)
    value = f" is {first['input']!r}" if can_be_shown(first["input"]) else ""
    what = f"{where}{value}" if where else "The body"
    return ServiceError(422, f"{what}: {as_clause(first['msg'])}.", param=where or None)


def _suggestions(program: dspy.Module) -> dict[str, tuple[str, ...]]:
    """The documents of a program that searches them, if they are not too many to choose from."""
    list_documents = getattr(getattr(program, "retriever", None), "documents", None)
    documents = list_documents() if isinstance(program, RetrieveAndAnswer) and list_documents is not None else []
    return {"document": tuple(documents)} if 0 < len(documents) <= _SUGGESTED else {}
