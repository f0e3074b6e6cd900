"""Converts type hints to JSON Schema, with the descriptions of fields from the classes' docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from synth_dspy.domains.functions.docstrings import read_docstring

_QUALIFIERS = (typing.Required, typing.NotRequired)


class UnportableHintError(ValueError):
    """A type hint that no JSON Schema can express, or that cannot be resolved. The message says what is missing."""


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved type hints of a function; those that cannot be resolved stay strings."""
    function = inspect.unwrap(function)
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # a hint may be any expression
        hints: dict[str, Any] = {}
        for name, hint in function.__annotations__.items():
            holder = types.SimpleNamespace(__annotations__={name: hint})
            try:
                hints |= typing.get_type_hints(holder, function.__globals__, include_extras=True)
            except Exception:
                hints[name] = hint
        return hints


def schema_of(hint: Any, *, result: bool = False) -> dict[str, Any]:
    """The JSON Schema of a type, as pydantic generates it, with the fields' descriptions.

    Args:
        hint: A resolved type hint.
        result: Whether it is the type of a result, so that the schema is of its JSON, not of its input.

    Raises:
        UnportableHintError: it is a string, so a hint that could not be resolved, or a type that JSON lacks.
    """
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        """Leaves out a default that JSON lacks, without a warning."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    if isinstance(hint, str):
        raise UnportableHintError(f"a type that can be resolved ({hint})")
    name = getattr(hint, "__name__", None) or str(hint)
    if inspect.isroutine(hint):  # pydantic would describe its arguments
        raise UnportableHintError(f"a type that JSON has ({name})")
    try:
        portable = _portable(hint)
        mode: Any = "serialization" if result else "validation"
        schema = TypeAdapter(portable).json_schema(mode=mode, schema_generator=Quiet)
    except (PydanticUserError, TypeError, NameError) as error:
        raise UnportableHintError(f"a type that JSON has ({name})") from error
    notes = {each.__name__: each for each in _classes(portable, set())}
    schema = dict(_noted(schema, notes))
    if typing.get_origin(hint) is typing.Annotated and "description" not in schema:
        texts = (each if isinstance(each, str) else getattr(each, "documentation", None) for each in hint.__metadata__)
        note = next((each for each in texts if each), None)
        schema |= {"description": note} if note else {}
    return schema


def default_value(default: Any) -> Any:
    """A parameter's default as JSON.

    Raises:
        ValueError: if it cannot be written as JSON.
    """
    import pydantic_core

    try:
        value = pydantic_core.to_jsonable_python(default)
        json.dumps(value, allow_nan=False)
        return value
    except pydantic_core.PydanticSerializationError as error:
        raise ValueError(f"{default!r} is not a JSON value") from error


def _portable(hint: Any, within: frozenset[Any] = frozenset()) -> Any:
    """A hint with typing_extensions' `TypedDict` in place of typing's, which pydantic needs before Python 3.12.

    Data classes with such fields are copied. Models with such fields cannot exist: pydantic refuses to define them.
    """
    if sys.version_info >= (3, 12) or (isinstance(hint, type) and hint in within):
        return hint
    if typing.is_typeddict(hint) and type(hint).__module__ == "typing":
        return _typed_dict(hint, within | {hint})
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _data_class(hint, within | {hint})
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if not arguments or origin is typing.Literal:
        return hint
    if origin is typing.Annotated:
        return typing.Annotated[(_portable(arguments[0], within), *hint.__metadata__)]
    portable = tuple(_portable(each, within) for each in arguments)
    if portable == arguments:
        return hint
    return typing.Union[portable] if origin in (typing.Union, types.UnionType) else origin[portable]  # noqa: UP007


def _typed_dict(hint: Any, within: frozenset[Any]) -> Any:
    import typing_extensions

    members: dict[str, Any] = {}
    for name, each in typing.get_type_hints(hint, include_extras=True).items():
        # Under postponed annotations `__required_keys__` ignores the qualifiers.
        qualifier = typing.get_origin(each)
        needed = name in hint.__required_keys__ if qualifier not in _QUALIFIERS else qualifier is typing.Required
        kind: Any = typing_extensions.Required if needed else typing_extensions.NotRequired
        members[name] = kind[_portable(_unqualified(each), within)]
    make: Any = typing_extensions.TypedDict
    copy = make(hint.__name__, members)
    copy.__doc__ = hint.__doc__
    return copy


def _data_class(hint: Any, within: frozenset[Any]) -> Any:
    hints = typing.get_type_hints(hint, include_extras=True)
    fields = [each for each in dataclasses.fields(hint) if each.init]
    portable = {each.name: _portable(hints[each.name], within) for each in fields}
    if all(portable[name] == hints[name] for name in portable):
        return hint
    kept = ("default", "default_factory", "kw_only", "metadata")
    members = [
        (each.name, portable[each.name], dataclasses.field(**{key: getattr(each, key) for key in kept}))
        for each in fields
    ]
    copy = dataclasses.make_dataclass(hint.__name__, members)
    copy.__doc__ = _own_docstring(hint)
    return copy


def _unqualified(hint: Any) -> Any:
    """The type inside `Required[...]` or `NotRequired[...]`."""
    return hint.__args__[0] if typing.get_origin(hint) in _QUALIFIERS else hint


def _classes(hint: Any, seen: set[Any]) -> Iterator[type]:
    """The classes with fields in a hint, at every depth."""
    import typing_extensions

    for each in typing.get_args(hint):
        yield from _classes(each, seen)
    fields = typing_extensions.is_typeddict(hint) or dataclasses.is_dataclass(hint) or hasattr(hint, "model_fields")
    if not isinstance(hint, type) or not fields or hint in seen:
        return
    seen.add(hint)
    yield hint
    try:
        inner = typing.get_type_hints(hint, include_extras=True)
    except Exception:
        return
    for each in inner.values():
        yield from _classes(_unqualified(each), seen)


def _noted(schema: Any, classes: Mapping[str, type]) -> Any:
    """A schema with the descriptions of classes and of their fields from the classes' docstrings."""
    if isinstance(schema, list):
        return [_noted(each, classes) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: _noted(value, classes) for key, value in schema.items() if key not in ("default", "examples")}
    result |= {key: schema[key] for key in ("default", "examples") if key in schema}
    owner = classes.get(str(schema.get("title")))
    if owner is None or not isinstance(schema.get("properties"), dict):
        return result
    docstring = read_docstring(_own_docstring(owner))
    result.pop("description", None)
    if docstring.description:
        result["description"] = docstring.description
    for name, note in docstring.parameters.items():
        if name in result["properties"]:
            result["properties"][name].setdefault("description", note)
    return result


def _own_docstring(owner: type) -> str | None:
    """A class's docstring, unless it is the signature that `dataclass` writes by default."""
    text = owner.__doc__
    generated = dataclasses.is_dataclass(owner) and (text or "").startswith(f"{owner.__name__}(")
    return None if generated or not text else inspect.cleandoc(text)
