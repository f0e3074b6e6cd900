"""JSON Schema (draft 2020-12) for any purpose: validates values, and thins schemas out for constrained decoding.

A value may contain an `Unknown`, such as the result of a call that was not made yet: it fits if one of its types does.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime, time
from time import monotonic
from typing import Any
from uuid import UUID

_NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "$comment", "$defs"})
_PATTERN_S = 0.2
_PATTERNS_S = 1.0  # for all patterns of a schema and all parts of a value: a list may have 10,000 slow texts
_patterns_end: ContextVar[float] = ContextVar("patterns_end")
_SHOWN = 60  # characters of a value that a problem quotes


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that is not known yet, of one of these JSON types; of any if `types` is empty. `name` is for messages."""

    name: str
    types: frozenset[str]

    def __repr__(self) -> str:
        return self.name


def problems(value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], where: str) -> Iterator[str]:
    """The problems of a value, each as "place: description". Integers are strict: 3.0 and true are not integers.

    Args:
        value: JSON, or `Unknown`s inside JSON.
        schema: The schema that it must satisfy.
        definitions: The schemas that its `$ref`s name.
        where: The value's place in messages, such as "argument x".
    """
    from jsonschema.exceptions import best_match

    validator = _validator()({**schema, "$defs": {**definitions, **schema.get("$defs", {})}})
    _patterns_end.set(monotonic() + _PATTERNS_S)
    for error in sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path]):
        inside = best_match([error])  # of several alternatives, the one that was probably meant, if a part of it failed
        deepest = inside if inside and len(inside.absolute_path) > len(error.absolute_path) else error
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in deepest.absolute_path)
        yield f"{where}{path}: {_in_words(deepest, definitions)}"


def json_types(schema: Any, definitions: Mapping[str, Any] | None = None) -> frozenset[str]:
    """The JSON types that a schema admits ("integer" is separate from "number"); empty means any."""
    if not isinstance(schema, Mapping):
        return frozenset()
    definitions = definitions or schema.get("$defs") or {}
    if "$ref" in schema:
        return json_types(definitions.get(_ref_name(schema["$ref"])), definitions)
    if "const" in schema:
        return frozenset({_type_of(schema["const"])})
    if "enum" in schema:
        return frozenset(_type_of(value) for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [json_types(each, definitions) for each in schema[key]]
            return frozenset[str]().union(*parts) if all(parts) else frozenset()
    kind = schema.get("type")
    return frozenset([kind] if isinstance(kind, str) else kind or ())


def thinned(schema: Any, prefix: str) -> Any:
    """A schema for constrained decoding: no descriptions, closed objects, optional properties listed in "x-optional".

    Args:
        schema: Any schema; its `$defs` are left out.
        prefix: A prefix for the names of definitions, for schemas that are combined.
    """
    if not isinstance(schema, Mapping):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NOTES:
            continue
        if key == "$ref":
            result[key] = f"#/$defs/{prefix}{_ref_name(value)}"
        elif key in ("properties", "patternProperties"):
            result[key] = {name: thinned(each, prefix) for name, each in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            result[key] = [thinned(each, prefix) for each in value]
        elif key in ("items", "additionalProperties", "not", "propertyNames"):
            result[key] = thinned(value, prefix)
        else:
            result[key] = value
    if result.get("properties"):
        result.setdefault("additionalProperties", False)
        required = result.get("required") or ()
        result["required"] = [name for name in result["properties"] if name in required]
        optional = [name for name in result["properties"] if name not in required]
        if optional:
            result["x-optional"] = optional
    return result


def short(value: Any, most: int = _SHOWN) -> str:
    """A value shortened for messages."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."


def _in_words(error: Any, definitions: Mapping[str, Any]) -> str:
    shown = short(error.instance)
    match error.validator:
        case "type":
            kinds = error.validator_value
            return f"{shown} is not of type {kinds if isinstance(kinds, str) else ' or '.join(kinds)}"
        case "enum" | "const":
            values = error.validator_value if error.validator == "enum" else [error.validator_value]
            return f"{shown} is not one of {short(values, 200)}"
        case "anyOf" | "oneOf":
            kinds = " or ".join(sorted(json_types(error.schema, definitions)))
            return f"{shown} is not of type {kinds}" if kinds else f"{shown} fits none of its alternatives"
    return str(error.message)[:300]


def _ref_name(reference: Any) -> str:
    return str(reference).rsplit("/", 1)[-1]


def _type_of(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", type(None): "null"}
    return names.get(type(value), "object")


@functools.cache
def _validator() -> Callable[[Mapping[str, Any]], Any]:
    """Draft 2020-12 with strict integers, formats of dates that are checked, and `Unknown` as a value of its types."""
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.exceptions import ValidationError
    from jsonschema.validators import extend

    standard = Draft202012Validator.VALIDATORS

    def spared(rule: Callable[..., Any]) -> Callable[..., Any]:
        def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            if not isinstance(instance, Unknown):
                yield from rule(validator, value, instance, schema) or ()

        return check

    def of_type(validator: Any, types: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(instance, Unknown):
            yield from standard["type"](validator, types, instance, schema) or ()
            return
        wanted = {types} if isinstance(types, str) else set(types)
        # A number that is not known yet may turn out to be whole.
        types = instance.types | ({"integer", "number"} if instance.types & {"integer", "number"} else set())
        if types and not wanted & types:
            yield ValidationError(f"{instance!r} is not of type {types}")

    rules = {key: spared(rule) for key, rule in standard.items()}
    rules |= {key: standard[key] for key in ("$ref", "anyOf", "allOf")}  # these pass the value on
    rules["type"] = of_type
    rules |= {"pattern": spared(_matches), "uniqueItems": spared(_all_different)}
    rules |= {"patternProperties": spared(_properties), "additionalProperties": spared(_more_properties)}
    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    formats = FormatChecker(formats=())
    for name, parse in _FORMATS.items():
        formats.checks(name, raises=ValueError)(parse)
    return functools.partial(extend(Draft202012Validator, validators=rules, type_checker=types), format_checker=formats)


def _matches(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    """JSON Schema's `pattern`."""
    from jsonschema.exceptions import ValidationError

    if not validator.is_type(instance, "string"):
        return
    try:
        if not _search(pattern, instance):
            yield ValidationError(f"{instance!r} does not match {pattern!r}")
    except TimeoutError:
        yield _too_long(pattern, instance)


def _properties(validator: Any, patterns: Mapping[str, Any], instance: Any, schema: Any) -> Iterator[Any]:
    """JSON Schema's `patternProperties`."""
    if not validator.is_type(instance, "object"):
        return
    for pattern, wanted in patterns.items():
        for name, value in instance.items():
            try:
                if _search(pattern, name):
                    yield from validator.descend(value, wanted, path=name, schema_path=pattern)
            except TimeoutError:
                yield _too_long(pattern, name)


def _more_properties(validator: Any, wanted: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """JSON Schema's `additionalProperties`."""
    from jsonschema.exceptions import ValidationError

    def matches(name: str) -> bool:
        try:
            return any(_search(pattern, name) for pattern in schema.get("patternProperties", ()))
        except TimeoutError:  # `_properties` reports it
            return True

    if not validator.is_type(instance, "object"):
        return
    more = [name for name in instance if name not in schema.get("properties", ()) and not matches(name)]
    if validator.is_type(wanted, "object"):
        for name in more:
            yield from validator.descend(instance[name], wanted, path=name)
    elif not wanted and more:
        yield ValidationError(f"it has the unknown properties {', '.join(map(repr, more))}")


def _all_different(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """JSON Schema's `uniqueItems`, in linear instead of quadratic time."""
    from jsonschema.exceptions import ValidationError

    if wanted and validator.is_type(instance, "array"):
        written = {json.dumps(_whole(each), sort_keys=True, default=repr) for each in instance}
        if len(written) < len(instance):
            yield ValidationError(f"{short(instance)} has non-unique elements")


def _whole(value: Any) -> Any:
    """A value with its whole numbers as integers: 1.0 and 1 are the same number; true is not a number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _search(pattern: str, text: str) -> bool:
    """Whether a pattern matches in a text. The pattern may be somebody else's, and slow on purpose.

    Raises:
        TimeoutError: it takes too long.
    """
    import regex

    left = min(_patterns_end.get() - monotonic(), _PATTERN_S)
    if left <= 0:
        raise TimeoutError
    try:
        return regex.search(pattern, text, timeout=left) is not None
    except regex.error:  # a pattern for Python's own `re` only: ignored
        return True


def _too_long(pattern: str, text: str) -> Any:
    from jsonschema.exceptions import ValidationError

    return ValidationError(f"the pattern {short(pattern)} takes too long to match {short(text)}")


def _parses(parse: Callable[[str], Any], length: int | None = None) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, str):
            return True
        parse(value)
        return length is None or len(value) == length  # Python also reads 20250131 and 2025-W05-5 as dates

    return check


_FORMATS = {
    "date": _parses(date.fromisoformat, 10),
    "date-time": _parses(datetime.fromisoformat),
    "time": _parses(time.fromisoformat),
    "uuid": _parses(UUID),
}
