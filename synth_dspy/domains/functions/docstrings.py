"""Parses docstrings: the description, the parameters, whether calling changes anything, and example calls.

Of Google, NumPy and Sphinx (reST) style, the one that parses most of the text is taken.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from synth_dspy.core.text import one_line
from synth_dspy.domains.functions.python_calls import PythonReader
from synth_dspy.domains.functions.schema import Call, CallSyntaxError, Function, validate

_READ_ONLY = re.compile(r"^[ \t]*read-only\.?[ \t]*$\n?", re.IGNORECASE | re.MULTILINE)
_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.)[ \t]?", re.MULTILINE)
_LONGEST = 2_000  # characters of an example call
_SCALARS = {
    **{"str": "string", "string": "string", "int": "integer", "integer": "integer", "float": "number"},
    **{"number": "number", "bool": "boolean", "boolean": "boolean", "None": "null", "dict": "object", "list": "array"},
}


@dataclass(frozen=True, slots=True)
class Docstring:
    """A docstring's parts.

    Attributes:
        description: the description of the function itself, in paragraphs.
        parameters: name -> description.
        types: name -> its type as written in the text.
        returns: description of the result.
        read_only: whether a line says "Read-only.".
    """

    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    returns: str = ""
    read_only: bool = False


def read_docstring(text: str | None) -> Docstring:
    """The parts of a docstring that `inspect.cleandoc` has cleaned; empty ones if there is none."""
    import docstring_parser

    if not text:
        return Docstring()
    # A section in the very first line would not be recognised, so another line is put before it.
    parsed = docstring_parser.parse("-\n\n" + _READ_ONLY.sub("", text))
    described = [each for each in parsed.params if each.arg_name]
    return Docstring(
        description=(parsed.long_description or "").strip(),
        # "*args" and "**kwargs" are written with their stars.
        parameters={each.arg_name.lstrip("*"): one_line(each.description) for each in described if each.description},
        types={each.arg_name.lstrip("*"): each.type_name for each in described if each.type_name},
        returns=one_line(parsed.returns.description) if parsed.returns and parsed.returns.description else "",
        read_only=bool(_READ_ONLY.search(text)),
    )


def examples_in(text: str | None, function: Function, functions: Mapping[str, Function]) -> Iterator[Call]:
    """The valid calls of a function in its docstring, after `>>>` or not, each once.

    Args:
        text: The docstring.
        function: The function whose calls are looked for.
        functions: Functions that may be called inside such a call, by name.
    """
    text = _PROMPT.sub("", text or "")
    seen: list[dict[str, Any]] = []
    for match in re.finditer(rf"(?<![\w.]){re.escape(function.name)}\(", text):
        call = _call_at(text[match.start() : match.start() + _LONGEST], functions)
        if call and not validate(call, functions.values()) and call.as_json() not in seen:
            seen.append(call.as_json())
            yield call


def stated_type(text: str) -> dict[str, Any] | None:
    """The schema of a type as docstrings write it: `int`, `list of str`, `list[int]`, `{"a", "b"}`, `str, optional`."""
    text = re.sub(r",?\s*(optional|default\b.*)$", "", text.strip().strip("`").removeprefix(":class:").strip("`"))
    text = re.sub(r"\b(list|dict)s? of (\w+?)s?\b", r"\1[\2]", text).replace(" or ", " | ")
    try:
        return _of_type(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError):
        return None


def _of_type(node: ast.AST) -> dict[str, Any]:
    match node:
        case ast.Name(id=name) if name in _SCALARS:
            return {"type": _SCALARS[name]}
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Set(elts=values):  # NumPy's notation for an enumeration
            return {"enum": [ast.literal_eval(value) for value in values]}
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return {"anyOf": [_of_type(left), _of_type(right)]}
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return {"anyOf": [_of_type(inner), {"type": "null"}]}
        case ast.Subscript(value=ast.Name(id="list" | "List"), slice=inner):
            return {"type": "array", "items": _of_type(inner)}
        case ast.Subscript(value=ast.Name(id="dict" | "Dict"), slice=ast.Tuple(elts=[_, inner])):
            return {"type": "object", "additionalProperties": _of_type(inner)}
    raise ValueError(f"not a type: {ast.dump(node)}")


def _call_at(text: str, functions: Mapping[str, Function]) -> Call | None:
    """The call that a text begins with: up to the first closing bracket that completes it."""
    for match in re.finditer(r"\)", text):
        try:
            calls = PythonReader(text[: match.end()], functions).calls()
        except CallSyntaxError:
            continue
        return calls[0]
    return None
