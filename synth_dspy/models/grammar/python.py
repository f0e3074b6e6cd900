"""The compiler from the JSON schema of a list of calls to the grammar of the same calls in Python."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from typing import Any

from synth_dspy.models.grammar.ebnf import choice, literal
from synth_dspy.models.grammar.schema import SchemaCompiler, UnsupportedSchemaError

_NESTED = {"$call"}  # the properties of an object that represents a call in another call's arguments


class PythonCallsCompiler(SchemaCompiler):
    """Compiles the values of a schema in Python syntax, in calls with keyword arguments.

    A function whose name is not a dotted identifier is written `functions["get-weather"](...)`; arguments whose names
    are not identifiers come last, as `**{"user-id": 1}`.
    """

    constants: Mapping[Any, str] = {True: "True", False: "False", None: "None"}
    escapes = '"\\\\" ["\\\\nt]'

    def _root(self, schema: Mapping[str, Any]) -> str:
        self._depth = 1
        low = int(schema.get("minItems", 0))
        high = max(low, int(schema.get("maxItems", self._most_calls(schema))))
        if high == 0:
            return '"[]"'
        call = self._rule("call", self._calls(schema.get("items")))
        several = f'{call} (", " {call}){{{max(0, low - 1)},{high - 1}}}'
        return f'"[" {several} "]"' if low else f'"[" ({several})? "]"'

    def _calls(self, schema: Any) -> str:
        schema = self._resolved(schema)
        options = schema.get("anyOf") or schema.get("oneOf") or [schema]
        return choice([self._call(self._resolved(each)) for each in options])

    def _call(self, schema: Mapping[str, Any]) -> str:
        properties = schema.get("properties") or {}
        name = self._resolved(properties.get("name", {}))
        names: list[Any] = name["enum"] if "enum" in name else [name.get("const")]
        if not all(isinstance(each, str) for each in names):
            raise UnsupportedSchemaError(f"a call's name is a const or an enum of strings, not {name!r}")
        callee = choice([literal(self._callee(each)) for each in names])
        arguments = self._resolved(properties.get("arguments", {"type": "object", "additionalProperties": False}))
        return f'{callee} "(" {self._arguments(arguments, str(names[0]))} ")"'

    def _callee(self, name: str) -> str:
        return name if all(map(is_plain_name, name.split("."))) else f"functions[{self._written(name)}]"

    def _arguments(self, schema: Mapping[str, Any], where: str) -> str:
        properties = schema.get("properties") or {}
        if not properties:
            extra = schema.get("additionalProperties", True)
            if extra is False:
                return '""'
            argument = self._shared(f'[a-z_] [a-z0-9_]{{0,31}} "=" ({self._value(extra, where)})', "argument")
            return f'({argument} (", " {argument}){self._more()})?'
        optional = set(schema.get("x-optional", ()))
        plain: list[tuple[str, str, bool]] = []
        other: list[tuple[str, str, bool]] = []
        for name, child in properties.items():
            key, members = (f"{name}=", plain) if is_plain_name(name) else (f"{self._written(name)}: ", other)
            members.append((key, self._value(child, f"{where}.{name}"), name in optional))
        if other:
            plain.append(("**{", f'{self._members(other)} "}}"', all(each[2] for each in other)))
        return self._members(plain)

    def _object(self, schema: Mapping[str, Any], where: str, budget: int | None = None) -> str:
        properties = schema.get("properties") or {}
        if set(properties) == _NESTED:
            return self._shared(self._calls(*properties.values()), "nested")
        return super()._object(schema, where, budget)

    def _written(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{self._written(k)}: {self._written(v)}" for k, v in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(self._written, value)) + "]"
        if value is None or isinstance(value, bool):
            return self.constants[value]
        return super()._written(value)


def is_plain_name(name: str) -> bool:
    """Whether a name is an ASCII identifier; Python normalises others."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
