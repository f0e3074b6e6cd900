"""The canonical form of a function and of a call, for every source and syntax.

A `Function` is a name, a description and a JSON Schema (draft 2020-12) of its arguments. A `Call` is a name and
arguments, which are JSON values or nested calls, whose results they take. Everything else is rendered
from these two: prompts, the grammar of constrained decoding, JSON and Python calls (`syntax.py`), chat rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions import json_schema
from synth_dspy.domains.functions.json_schema import short, thinned

_DEEPEST = 100
_LARGEST_BITS = 14_000  # Python does not write numbers of more than 4,300 digits
_SHOWN = 60
_NESTED = "$call"  # marks a call inside another's arguments: {"$call": {"name": ..., "arguments": ...}}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function.

    Attributes:
        name: the function's name; dots allowed.
        arguments: JSON values or calls by name; calls may also be inside lists and objects. Tuples become lists.

    Raises:
        ValueError: an argument is neither, or is an object with the reserved key "$call".
    """

    name: str
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", {k: _json_value(v, k, 0) for k, v in self.arguments.items()})

    def as_json(self) -> dict[str, Any]:
        """`{"name": ..., "arguments": {...}}`, a nested call as `{"$call": {"name": ..., "arguments": ...}}`."""
        return {"name": self.name, "arguments": {key: _encoded(value) for key, value in self.arguments.items()}}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The call that `as_json` wrote.

        Raises:
            ValueError: if `value` is not such an object; says what is wrong with it.
        """
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError(f"a call is an object with a name and arguments, not {short(value)}")
        arguments = value.get("arguments", {})
        if not isinstance(arguments, Mapping):
            raise ValueError(f"the arguments of {value['name']} are an object, not {short(arguments)}")
        return cls(value["name"], {str(key): _decoded(each) for key, each in arguments.items()})

    def inner(self) -> Iterator[Call]:
        """The calls inside this one's arguments, each before those inside itself."""
        for each in _calls_in(list(self.arguments.values())):
            yield each
            yield from each.inner()


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it can be described to a model and called.

    Attributes:
        name: unique among the functions of a source; dots allowed.
        description: what it does, in words.
        parameters: JSON Schema of its arguments: `type` "object", `properties`, `required`; nested models are
            inlined, recursive ones stand in `$defs`, alternatives in `anyOf`.
        returns: JSON Schema of its result, or None if unknown.
        read_only: whether calling it changes nothing.
        target: "module_file.py:qualname", or "" if it cannot be executed.
        where: "file:line" of its definition.
        examples: calls found in its documentation.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    returns: Mapping[str, Any] | None = None
    read_only: bool = False
    target: str = ""
    where: str = ""
    examples: tuple[Call, ...] = ()

    @property
    def properties(self) -> Mapping[str, Any]:
        """The schema of each argument, in the order of the signature."""
        properties: Mapping[str, Any] = self.parameters.get("properties") or {}
        return properties

    @property
    def required(self) -> tuple[str, ...]:
        """Arguments that must be given."""
        return tuple(self.parameters.get("required") or ())


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap in the documentation of a function.

    Attributes:
        file, line: where to fill it.
        function: the function's name.
        parameter: the argument, with a path for what is inside it ("stop.city"); "return" for the result; "" for
            the function itself.
        missing: "a description" or "a type".
    """

    file: str
    line: int
    function: str
    parameter: str
    missing: str

    def __str__(self) -> str:
        of = f"{self.function}({self.parameter})" if self.parameter else self.function
        return f"{self.file}:{self.line}: {of} lacks {self.missing}"


class NoFunctionsError(SetupError):
    """A file or folder has no functions."""


class CallSyntaxError(ValueError):
    """A text that is not an array of calls. `line` and `column` (from 1) say where it goes wrong."""

    def __init__(self, problem: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {problem}")
        self.line = line
        self.column = column


def validate(call: Call, functions: Iterable[Function]) -> list[str]:
    """The problems of a call, in words; empty if it is valid.

    Nested calls are validated too; the result of a nested call must be of a type that the argument accepts. Integers
    are strict: 3.0 and true are not integers.

    Args:
        call: The call.
        functions: The functions that may be called.
    """
    registry = {function.name: function for function in functions}
    return list(_problems(call, registry))


def calls_schema(functions: Sequence[Function], *, most: int | None = None, nested: int = 0) -> dict[str, Any]:
    """JSON Schema of a reply that is an array of calls, `[]` for none; for constrained decoding and validation.

    Properties that may be left out are named in the keyword "x-optional" of their object, at every depth: grammars
    of constrained decoding treat all other properties as required.

    Args:
        functions: The functions that may be called.
        most: The largest number of calls, or None for any.
        nested: How many levels of calls inside calls are allowed.
    """
    definitions: dict[str, Any] = {}
    for level in range(nested):
        definitions[f"call_{level}"] = {"anyOf": _alternatives(functions, definitions, level)}
    options = _alternatives(functions, definitions, nested)
    schema: dict[str, Any] = {"type": "array", "items": {"anyOf": options}} if options else {"type": "array"}
    most = most if options else 0
    if most is not None:
        schema["maxItems"] = most
    return {**schema, "$defs": definitions} if definitions else schema


# -- calls as JSON ----------------------------------------------------------------------------------------------------


def _json_value(value: Any, where: str, depth: int) -> Any:
    """`value` with tuples as lists, checked to be JSON or a call, and to be of a size that can be written."""
    if depth > _DEEPEST:
        raise ValueError(f"argument {where[:_SHOWN]}: nested more than {_DEEPEST} deep")
    if isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
        raise ValueError(f"argument {where}: a number of thousands of digits")
    if isinstance(value, Call):
        for each in value.arguments.values():
            _json_value(each, where, depth + 1)
        return value
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"argument {where}: {value} is not a JSON number")
        return value
    if isinstance(value, (list, tuple)):
        return [_json_value(each, f"{where}[{i}]", depth + 1) for i, each in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"argument {where}: the key {key!r} of an object is not a string")
            if key == _NESTED:
                raise ValueError(f'argument {where}: the key "{_NESTED}" is reserved for nested calls')
        return {key: _json_value(each, f"{where}.{key}", depth + 1) for key, each in value.items()}
    raise ValueError(f"argument {where}: {short(value)} is not a JSON value")


def _encoded(value: Any) -> Any:
    if isinstance(value, Call):
        return {_NESTED: value.as_json()}
    if isinstance(value, list):
        return [_encoded(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _encoded(each) for key, each in value.items()}
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {_NESTED}:
            return Call.from_json(value[_NESTED])
        return {key: _decoded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    return value


def _calls_in(value: Any) -> Iterator[Call]:
    if isinstance(value, Call):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _calls_in(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _calls_in(each)


# -- validation -------------------------------------------------------------------------------------------------------


def _problems(call: Call, registry: Mapping[str, Function]) -> Iterator[str]:
    function = registry.get(call.name)
    if function is None:
        yield f"unknown function {call.name}"
    else:
        more = function.parameters.get("additionalProperties", False)
        if more is False:
            yield from (f"unknown argument {name}" for name in call.arguments if name not in function.properties)
        yield from (f"missing argument {name}" for name in function.required if name not in call.arguments)
        definitions = function.parameters.get("$defs") or {}
        for name, value in call.arguments.items():
            schema = function.properties.get(name, more)
            if isinstance(schema, Mapping):
                yield from json_schema.problems(_stand_in(value, registry), schema, definitions, f"argument {name}")
    for each in _calls_in(list(call.arguments.values())):
        yield from (f"in {each.name}: {problem}" for problem in _problems(each, registry))


def _stand_in(value: Any, registry: Mapping[str, Function]) -> Any:
    if isinstance(value, Call):
        function = registry.get(value.name)
        types = json_schema.json_types(function.returns) if function else frozenset[str]()
        return json_schema.Unknown(f"the result of {value.name}", types)
    if isinstance(value, list):
        return [_stand_in(each, registry) for each in value]
    if isinstance(value, Mapping):
        return {key: _stand_in(each, registry) for key, each in value.items()}
    return value


# -- the schema of a reply --------------------------------------------------------------------------------------------


def _alternatives(functions: Sequence[Function], definitions: dict[str, Any], level: int) -> list[dict[str, Any]]:
    """One schema per function; its arguments may contain calls of the next lower level. Adds to `definitions`."""
    options = []
    for index, function in enumerate(functions):
        prefix = f"f{index}_"  # two functions may have models of the same name
        for name, schema in (function.parameters.get("$defs") or {}).items():
            definitions[prefix + name] = thinned(schema, prefix)
        arguments = thinned({"properties": {}, "additionalProperties": False, **function.parameters}, prefix)
        if level:
            arguments["properties"] = {
                name: {"anyOf": [schema, _reference(f"call_{level - 1}")]}
                for name, schema in arguments["properties"].items()
            }
        call = {"name": {"const": function.name}, "arguments": arguments}
        options.append(_closed(call))
    return options


def _reference(definition: str) -> dict[str, Any]:
    return _closed({_NESTED: {"$ref": f"#/$defs/{definition}"}})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
