"""Labelled examples of function calls: rows as users write them, validated, and as a program receives them.

An example carries the functions and the conversation that the program would be shown, so that a
demonstration has the same form as the program's own prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io import jsonl
from synth_dspy.domains.functions.bfcl import EMPTY, OMITTED, accepted_form
from synth_dspy.domains.functions.openapi import function_of
from synth_dspy.domains.functions.prompts import Turn, show_functions, show_request
from synth_dspy.domains.functions.schema import Call, Function, validate
from synth_dspy.domains.functions.syntax import Syntax, render

INPUTS = ("question", "available", "conversation", "system")
"""The program's inputs."""
CALL = "call"
_OBJECT: jsonl.Check = lambda value: None if isinstance(value, dict) else "make it an object"  # noqa: E731


def example_fields(
    question: str,
    calls: Sequence[Call],
    offered: Sequence[Function],
    syntax: Syntax,
    *,
    accepted: Sequence[Mapping[str, Any]] | None = None,
    conversation: Sequence[Turn] = (),
    system: str = "",
    by_name: bool = True,
) -> dict[str, Any]:
    """The fields of a row: the program's inputs, its predictor's inputs and expected output, what it is scored against.

    Args:
        question: the last message of the user.
        calls: the expected calls; empty if no function fits or an argument is missing.
        offered: the functions to choose from.
        syntax: what calls are written in.
        accepted: the accepted values of every argument, in BFCL's form; by default those of `calls`.
        conversation: the turns before the question.
        system: rules on when to call.
        by_name: name the functions, if the program has them; False describes them in full.
    """
    registry = {function.name: function for function in offered}
    if accepted is None:
        accepted = [accepted_form(call, registry[call.name]) for call in calls]
    available: list[Any] = [*registry] if by_name else [tool(function) for function in offered]
    answer = render(calls, "json")
    return {
        "question": question,
        "available": available,
        **({"conversation": [dict(turn) for turn in conversation]} if conversation else {}),
        **({"system": system} if system else {}),
        "functions": show_functions(offered),
        "request": show_request(question, conversation, syntax),
        "calls": render(calls, syntax),
        "answer": answer,
        "references": [answer] if calls else [],
        "expected": {"calls": [dict(each) for each in accepted], "functions": available},
        "answer_type": CALL,
    }


def calls_of(accepted: Iterable[Mapping[str, Any]], registry: Mapping[str, Function] | None = None) -> list[Call]:
    """The calls that these accepted values describe, with the first value of each argument.

    Args:
        accepted: calls in BFCL's form.
        registry: functions by name: an argument that one of them requires is not left out.
    """
    return [
        Call.from_json({"name": name, "arguments": _first(arguments, _required(name, registry or {}))})
        for each in accepted
        for name, arguments in each.items()
    ]


def _required(name: str, registry: Mapping[str, Function]) -> tuple[str, ...]:
    return registry[name].required if name in registry else ()


def _first(accepted: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """The first of each list of accepted values, also in fields of objects; left out if that is `OMITTED`."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping) and "$call" not in value:
            return _first(value)
        return [plain(each) for each in value] if isinstance(value, list) else value

    first = {}
    for key, values in accepted.items():
        values = values if isinstance(values, list) else [values]  # some of BFCL's objects have the value itself
        if key in required:
            values = [value for value in values if value != OMITTED] or values
        if values and (values[0] != OMITTED or key in required or values == EMPTY):
            first[key] = plain(values[0])
    return first


def read_examples(path: Path, registry: Mapping[str, Function]) -> list[dict[str, Any]]:
    """Labelled examples, checked against the functions they call.

    Raises:
        SetupError: a line is malformed; names the file, the line and the field.
    """
    rows = jsonl.read_rows(
        path,
        {"id": jsonl.ID, "category": jsonl.FILLED, "question": jsonl.FILLED, "functions": jsonl.FILLED_TEXTS,
         "expected": jsonl.OBJECTS},
        optional={"conversation": jsonl.OBJECTS, "system": jsonl.TEXT, "group": jsonl.FILLED, "said": _OBJECT},
        unique="id",
    )  # fmt: skip
    for number, row in enumerate(rows, start=1):
        place = f"{path}, example {number} ({row['id']})"
        if not row["functions"]:
            raise SetupError(f"{place}: field 'functions' is empty; name the functions that are offered.")
        unknown = [
            name for name in [*row["functions"], row.get("group") or row["functions"][0]] if name not in registry
        ]
        if unknown:
            raise SetupError(f"{place}: {unknown[0]} is not among the functions that were read; name its file.")
        try:
            calls = calls_of(row["expected"])
        except (ValueError, AttributeError, IndexError, TypeError) as error:
            raise SetupError(
                f'{place}: field \'expected\' is malformed ({error}); write [{{"name": {{"argument": '
                "[accepted values]}}]."
            ) from error
        problems = [
            problem for call in calls for problem in validate(call, [registry[name] for name in row["functions"]])
        ]
        if problems:
            raise SetupError(f"{place}: field 'expected' does not fit the functions: {problems[0]}.")
        try:
            _calls_before(row)
        except (ValueError, AttributeError, TypeError) as error:
            raise SetupError(
                f"{place}: a turn's calls in field 'conversation' are malformed ({error}); write "
                '[{"name": "...", "arguments": {...}}].'
            ) from error
    return rows


def grouped(registry: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The group of each function: functions that labelled examples call together are on the same side of every split.

    Calls in earlier turns count too: they are the labels of other rows, and are in this row's prompt. A group is
    named after its first function.
    """
    names = list(registry)
    group = {name: name for name in names}
    for row in rows:
        calls = [*calls_of(row["expected"]), *_calls_before(row)]
        called = [subject_of(row), *(name for call in calls for name in _names(call))]
        together = {group[name] for name in called if name in group}
        if len(together) > 1:
            first = min(together, key=names.index)
            group = {name: first if each in together else each for name, each in group.items()}
    return group


def subject_of(row: Mapping[str, Any]) -> str:
    """The function that a row is about: the one called, or the first one offered if none should be."""
    calls = calls_of(row["expected"])
    return calls[0].name if calls else str(row.get("group") or row["functions"][0])


def _calls_before(row: Mapping[str, Any]) -> list[Call]:
    """The calls that the assistant made in earlier turns."""
    return [
        call if isinstance(call, Call) else Call.from_json(call)
        for turn in row.get("conversation") or ()
        for call in turn.get("calls") or ()
    ]


def _names(call: Call) -> list[str]:
    return [call.name, *(each.name for each in call.inner())]


def tool(function: Function) -> dict[str, Any]:
    """A function as a row carries it in full: `name`, `description`, `parameters`."""
    return {"name": function.name, "description": function.description, "parameters": dict(function.parameters)}


def resolve(available: Iterable[Any], registry: Mapping[str, Function]) -> list[Function]:
    """The functions that a row offers, by name or in full.

    Raises:
        SetupError: a function does not exist.
    """
    functions = []
    for each in available:
        if isinstance(each, Function):
            functions.append(each)
        elif isinstance(each, Mapping):
            functions.append(function_of(each))
        elif each in registry:
            functions.append(registry[each])
        else:
            raise SetupError(f"There is no function {each!r}; there are {', '.join(sorted(registry)[:12])}.")
    return functions
