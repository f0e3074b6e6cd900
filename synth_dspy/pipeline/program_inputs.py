"""The inputs of a program, from its signature or its `forward`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import dspy

from synth_dspy.domains.documents.rag import RetrieveAndAnswer
from synth_dspy.pipeline.answering import Answering

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_FOUND = "passages"
"""An input of the signature that `RetrieveAndAnswer` fills itself."""


def programs_of(program: dspy.Module) -> list[dspy.Module]:
    """The programs that may answer for one: those that a router chooses among, with its inputs; else itself."""
    from synth_dspy.training.recipes.route import Routed

    return list(program.programs.values()) if isinstance(program, Routed) else [program]


def declared_inputs(program: dspy.Module) -> tuple[dict[str, Any], frozenset[str]]:
    """The types of a program's inputs by name, and the names of those without a default."""
    program = programs_of(program)[0]
    if isinstance(program, Answering):
        program = program.program
    signature = getattr(program, "signature", None)
    if isinstance(signature, type) and hasattr(signature, "input_fields"):
        own = _of(signature.input_fields)
        return own, frozenset(own)
    try:
        forward = inspect.signature(type(program).forward, eval_str=True)
    except (NameError, TypeError):  # a type that is imported for type checkers only
        forward = inspect.signature(type(program).forward)
    parameters = list(forward.parameters.values())[1:]
    types = {each.name: _type(each.annotation) for each in parameters if each.kind in _NAMED}
    required = frozenset(each.name for each in parameters if each.kind in _NAMED and each.default is each.empty)
    if all(each.kind in _NAMED for each in parameters):
        return types, required
    further = _of(program.predictors()[0].signature.input_fields)  # of `**inputs`
    if isinstance(program, RetrieveAndAnswer):
        further.pop(_FOUND, None)
        required |= frozenset(further)
    return further | types, required or frozenset(further)


def _of(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: field.annotation for name, field in fields.items()}


def _type(annotation: Any) -> Any:
    return Any if annotation is inspect.Parameter.empty or isinstance(annotation, str) else annotation
