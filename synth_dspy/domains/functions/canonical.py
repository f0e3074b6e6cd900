"""Converts every dialect of schema to one form: pydantic's, OpenAPI's, those of tool lists and of the BFCL benchmark.

The form is JSON Schema (draft 2020-12) with references inlined (recursive ones are in `$defs`), `anyOf` for all
alternatives, `allOf` merged, and only keywords whose values conform to the standard, so that no schema found in
the wild can break a validator or a grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from synth_dspy.domains.functions.json_schema import json_types
from synth_dspy.domains.functions.schema import Gap

# Names of types outside the standard: Python's, and the Java and JavaScript ones of BFCL. "" is any.
_TYPES = {
    **{name: name for name in ("string", "integer", "number", "boolean", "array", "object", "null")},
    **{"str": "string", "char": "string", "int": "integer", "byte": "integer", "short": "integer", "long": "integer"},
    **{"bigint": "integer", "float": "number", "double": "number", "bool": "boolean", "none": "null", "any": ""},
    **{"list": "array", "tuple": "array", "set": "array", "arraylist": "array", "queue": "array", "stack": "array"},
    **{"dict": "object", "hashmap": "object", "hashtable": "object"},
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST_BOUND


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNTED


def _is_pattern(value: Any) -> bool:
    try:
        re.compile(value)
    except (TypeError, re.error, OverflowError, RecursionError):  # OpenAPI's patterns are ECMAScript's
        return False
    return True


_KEYWORDS: dict[str, Callable[[Any], bool]] = {
    "description": lambda value: isinstance(value, str) and bool(value.strip()),
    "default": lambda value: True,
    "const": lambda value: True,
    "examples": lambda value: isinstance(value, list) and bool(value),
    "format": lambda value: isinstance(value, str),
    "pattern": _is_pattern,
    "uniqueItems": lambda value: isinstance(value, bool),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _is_count),
}


_LARGEST_BOUND, _MOST_COUNTED = 1e300, 10**9  # larger ones limit nothing, and grammars do not accept them
_DEEPEST, _MOST_PARTS = 64, 50_000  # references are written once and expand to any size


class UnresolvedError(ValueError):
    """A reference to something that its document lacks, or a schema that expands without a reasonable limit."""


def canonical(schema: Any, document: Any = None, *, sent: bool = False, inline: bool = True) -> dict[str, Any]:
    """A schema in canonical form.

    Args:
        schema: A schema in any of the dialects.
        document: What `$ref`s point into; the schema itself where it is None.
        sent: Whether it describes what is sent to a server: properties that only the server sets are left out.
        inline: Whether `$ref`s are replaced by what they name. If not, a schema that is already canonical is
            checked in time linear in its size, whoever made it: its `$ref`s must name its `$defs`.

    Raises:
        UnresolvedError: a reference leads outside the document.
    """
    if not inline:
        return _checked(schema)
    reader = _Reader(schema if document is None else document, sent)
    result = reader.of(schema)
    return {**result, "$defs": reader.recursive} if reader.recursive else result


def _checked(schema: Any) -> dict[str, Any]:
    definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
    checker = _Checker(schema, definitions)
    result = checker.of(schema)
    if definitions:
        result["$defs"] = {str(name): checker.of(each) for name, each in definitions.items()}
    return schema if result == schema else result  # the original keeps the order of its keys, which prompts show


def pointed(reference: str, document: Any) -> Any:
    """What a `$ref` points to in its document.

    Raises:
        UnresolvedError: the document lacks it, or it is outside the document.
    """
    if not reference.startswith("#"):
        raise UnresolvedError(f"{reference!r} points outside its document")
    node = document
    for part in reference.removeprefix("#").strip("/").split("/"):
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if not isinstance(node, Mapping) or key not in node:
            raise UnresolvedError(f"{reference!r} points to nothing in its document")
        node = node[key]
    return node


def gaps_of(function: str, schema: Mapping[str, Any], file: str, line: Callable[[str], int]) -> Iterator[Gap]:
    """The descriptions and types that the arguments of a function lack, at every depth.

    Args:
        function: Its name.
        schema: Its parameters, canonical.
        file: Where it is defined.
        line: The line of an argument, by its name.
    """

    def inside(schema: Any, path: str) -> Iterator[Gap]:
        if not isinstance(schema, Mapping):
            return
        for name, each in (schema.get("properties") or {}).items():
            here = f"{path}.{name}" if path else name
            if not json_types(each) and "$ref" not in each:
                yield Gap(file, line(here.split(".")[0]), function, here, "a type")
            if not _described(each):
                yield Gap(file, line(here.split(".")[0]), function, here, "a description")
            yield from inside(each, here)
        for each in (schema.get("items"), schema.get("additionalProperties"), *(schema.get("anyOf") or ())):
            yield from inside(each, path)

    yield from inside(schema, "")


def _described(schema: Mapping[str, Any]) -> bool:
    return "description" in schema or any(_described(each) for each in schema.get("anyOf", ()))


class _Reader:
    """Reads the schemas of one document."""

    def __init__(self, document: Any, sent: bool) -> None:
        self._document = document
        self._sent = sent
        self._open: list[str] = []  # references being followed
        self._depth = self._parts = 0
        self.recursive: dict[str, Any] = {}

    def of(self, schema: Any) -> dict[str, Any]:
        self._depth += 1
        self._parts += 1
        if self._depth > _DEEPEST or self._parts > _MOST_PARTS:
            raise UnresolvedError(
                f"a schema expands to more than {_MOST_PARTS:,} parts, or is nested more than {_DEEPEST} deep"
            )
        result = self._of(schema)
        self._depth -= 1
        return result

    def _of(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            return {} if schema is not False else {"enum": []}
        if isinstance(schema.get("$ref"), str):
            return self._followed(schema)
        if isinstance(schema.get("allOf"), list):
            return self.of(self._merged(schema))
        result: dict[str, Any] = {}
        kinds = self._kinds(schema)
        if kinds:
            result["type"] = kinds[0] if len(kinds) == 1 else kinds
        for key, fits in _KEYWORDS.items():
            if key in schema and fits(schema[key]):
                result[key] = schema[key]
        if "examples" not in result and "example" in schema:
            result["examples"] = [schema["example"]]
        for bound, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if schema.get(strict) is True and bound in result:  # OpenAPI 3.0
                result[strict] = result.pop(bound)
        self._structure(schema, result)
        self._enum(schema, result)
        options = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(options, list):
            result["anyOf"] = [self.of(each) for each in options]
        if schema.get("nullable") is True and "null" not in json_types(result):
            notes = ("description", "default", "examples")
            note: dict[str, Any] = {key: result.pop(key) for key in notes if key in result}
            result = {**note, "anyOf": [result, {"type": "null"}]}
        return result

    def _structure(self, schema: Mapping[str, Any], result: dict[str, Any]) -> None:
        """Properties and items, each in canonical form."""
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            result.setdefault("type", "object")
            result["properties"] = {str(name): self.of(each) for name, each in properties.items() if self._is_for(each)}
            required = schema.get("required")
            required = required if isinstance(required, list) else ()
            result["required"] = [name for name in result["properties"] if name in required]
        if "additionalProperties" in schema:
            more = schema["additionalProperties"]
            result["additionalProperties"] = more if isinstance(more, bool) else self.of(more)
        if isinstance(schema.get("patternProperties"), Mapping):
            result["patternProperties"] = {
                key: self.of(each) for key, each in schema["patternProperties"].items() if _is_pattern(key)
            }
        items = schema.get("items")
        if isinstance(schema.get("prefixItems"), list) or isinstance(items, list):
            result["prefixItems"] = [self.of(each) for each in schema.get("prefixItems") or items or ()]
        elif isinstance(items, Mapping):
            result["items"] = self.of(items)

    def _is_for(self, schema: Any) -> bool:
        if self._sent and isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str):
            schema = pointed(schema["$ref"], self._document)
        return not (self._sent and isinstance(schema, Mapping) and schema.get("readOnly") is True)

    @staticmethod
    def _enum(schema: Mapping[str, Any], result: dict[str, Any]) -> None:
        values = schema.get("enum")
        if not isinstance(values, list) or not values:
            return
        if result.get("type") == "array" and not any(isinstance(value, list) for value in values):
            result["items"] = {**result.get("items", {}), "enum": values}  # BFCL: what the list may hold
            return
        result["enum"] = values
        kind = result.get("type", [])
        if not json_types({"enum": values}) <= set([kind] if isinstance(kind, str) else kind):
            result.pop("type", None)

    @staticmethod
    def _kinds(schema: Mapping[str, Any]) -> list[str]:
        """The standard names of a schema's types; empty if any type will do."""
        kind = schema.get("type", "any")
        kinds = [_TYPES.get(str(each).lower(), "") for each in (kind if isinstance(kind, list) else [kind])]
        return list(dict.fromkeys(kinds)) if all(kinds) else []

    def _followed(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        reference: str = schema["$ref"]
        annotations = {key: schema[key] for key in ("description", "default") if key in schema}
        name = re.sub(r"\W", "_", reference.rsplit("/", 1)[-1])
        if reference in self._open:
            self.recursive.setdefault(name, {})
            return {"$ref": f"#/$defs/{name}", **annotations}
        self._open.append(reference)
        target = self.of(pointed(reference, self._document))
        self._open.pop()
        if name in self.recursive:
            self.recursive[name] = target
            return {"$ref": f"#/$defs/{name}", **annotations}
        return {**target, **annotations}

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """`allOf` as one schema: properties and required names combined; of other keywords the last value counts."""
        result: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        required: list[str] = []
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        for part in [*schema["allOf"], rest]:
            seen: list[str] = []
            while isinstance(part, Mapping) and (
                isinstance(part.get("$ref"), str) or isinstance(part.get("allOf"), list)
            ):
                if isinstance(part.get("$ref"), str):
                    if part["$ref"] in seen or part["$ref"] in self._open:
                        raise UnresolvedError(f"{part['$ref']!r} includes itself")
                    seen.append(part["$ref"])
                    part = pointed(part["$ref"], self._document)
                else:
                    part = self._merged(part)
            if isinstance(part, Mapping):
                result |= part
                own, needed = part.get("properties"), part.get("required")
                properties |= own if isinstance(own, Mapping) else {}
                required += needed if isinstance(needed, list) else []
        return {**result, **({"properties": properties, "required": required} if properties else {})}


class _Checker(_Reader):
    """Follows no references and merges nothing: both can expand a small schema to a huge one."""

    def __init__(self, schema: Any, definitions: Any) -> None:
        super().__init__(schema, sent=False)
        if not isinstance(definitions, Mapping):
            raise UnresolvedError("its $defs are not an object")
        self._names = {f"#/$defs/{name}" for name in definitions}

    def _followed(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if schema["$ref"] not in self._names:
            raise UnresolvedError(f"{schema['$ref']!r} is not among its definitions")
        return {key: schema[key] for key in ("$ref", "description", "default") if key in schema}

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        raise UnresolvedError("its parts are not merged")
