"""Writes calls as Python, and reads them from a syntax tree; nothing is ever evaluated.

Names that are not identifiers are written differently: a function as `functions["get-weather"](...)`, an argument as
`f(**{"user-id": 1})`.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any

from synth_dspy.domains.functions.schema import Call, CallSyntaxError, Function
from synth_dspy.models.grammar.python import is_plain_name

_BY_NAME = "functions"
_SPELT = {"true": True, "false": False, "null": None}  # JSON's constants inside Python


def python_call(call: Call) -> str:
    """A call as Python writes it."""
    dotted = all(is_plain_name(part) for part in call.name.split("."))
    name = call.name if dotted else f"{_BY_NAME}[{python_value(call.name)}]"
    named = {key: value for key, value in call.arguments.items() if is_plain_name(key)}
    parts = [f"{key}={python_value(value)}" for key, value in named.items()]
    rest = {key: value for key, value in call.arguments.items() if key not in named}
    if rest:
        parts.append(f"**{python_value(rest)}")
    return f"{name}({', '.join(parts)})"


def python_value(value: Any) -> str:
    """A JSON value, or calls inside one, as Python writes it."""
    if isinstance(value, Call):
        return python_call(value)
    if isinstance(value, list):
        return "[" + ", ".join(python_value(each) for each in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{python_value(key)}: {python_value(each)}" for key, each in value.items()) + "}"
    text = repr(value)
    if isinstance(value, str) and not {"'", '"'} & set(value):
        return f'"{text[1:-1]}"'
    return text


class PythonReader:
    """Reads calls from a syntax tree; everything but literals and calls is refused, with its place."""

    def __init__(self, text: str, functions: Mapping[str, Function]) -> None:
        self._text = text.strip()
        self._functions = functions

    def calls(self) -> list[Call]:
        try:
            statements = ast.parse(self._text).body
        except SyntaxError as error:
            raise CallSyntaxError(f"not Python: {error.msg}", error.lineno or 1, error.offset or 1) from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise CallSyntaxError(f"not Python: {error}") from None
        if not statements:
            raise CallSyntaxError("empty; to call nothing, write []")
        calls: list[Call] = []
        try:
            for statement in statements:
                value: ast.AST = statement.value if isinstance(statement, ast.Expr) else statement
                each = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
                calls += [self._call(node) for node in each]
        except RecursionError:
            raise CallSyntaxError("nested too deeply") from None
        return calls

    def _wrong(self, problem: str, node: ast.AST) -> CallSyntaxError:
        line, byte = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        before = self._text.split("\n")[line - 1].encode(errors="replace")[:byte]
        return CallSyntaxError(problem, line, len(before.decode(errors="ignore")) + 1)

    def _call(self, node: ast.AST) -> Call:
        if not isinstance(node, ast.Call):
            raise self._wrong("not a call", node)
        name = self._name(node.func)
        arguments: dict[str, Any] = {}
        function = self._functions.get(name)
        if node.args and function is None:
            raise self._wrong(f"the arguments of {name} need their names", node.args[0])
        names = list(function.properties) if function else []
        for position, each in enumerate(node.args):
            if position >= len(names) or isinstance(each, ast.Starred):
                raise self._wrong(f"{name} takes {len(names)} arguments", each)
            arguments[names[position]] = self._value(each)
        for word in node.keywords:
            value = self._value(word.value)
            more = {word.arg: value} if word.arg is not None else value
            if not isinstance(more, dict):
                raise self._wrong("** is followed by a dict", word.value)
            twice = next((key for key in more if key in arguments), None)
            if twice is not None:
                raise self._wrong(f"the argument {twice} of {name} is given twice", word.value)
            arguments |= more
        try:
            return Call(name, arguments)
        except ValueError as error:
            raise self._wrong(str(error), node) from None

    def _name(self, node: ast.AST) -> str:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=value, attr=attr):
                return f"{self._name(value)}.{attr}"
            case ast.Subscript(value=ast.Name(id=owner), slice=ast.Constant(value=str(name))) if owner == _BY_NAME:
                return name
        raise self._wrong("not the name of a function", node)

    def _value(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=None | bool() | int() | float() | str() as value):
                if isinstance(value, float) and not math.isfinite(value):
                    raise self._wrong("a number too large", node)
                return value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as number)):
                if isinstance(number, bool):
                    raise self._wrong("not a number", node)
                return -number if isinstance(sign, ast.USub) else number
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return [self._value(each) for each in elements]
            case ast.Dict(keys=keys, values=values):
                return {self._key(key, node): self._value(each) for key, each in zip(keys, values, strict=True)}
            case ast.Call():
                return self._call(node)
            case ast.Name(id=name) if name in _SPELT:
                return _SPELT[name]
        raise self._wrong("neither a literal nor a call", node)

    def _key(self, node: ast.AST | None, parent: ast.AST) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        raise self._wrong("the keys of a dict are strings", node or parent)
