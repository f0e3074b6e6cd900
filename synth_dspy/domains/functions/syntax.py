"""Calls and functions as text: each syntax is rendered from the canonical form and parsed back without loss.

Two syntaxes of calls, each an array, so that none, one and several calls look alike:

    json    [{"name": "get_weather", "arguments": {"city": "Oslo"}}]
    python  [get_weather(city="Oslo")]

JSON is spaced as constrained decoding spaces it. Python is read from its syntax tree; nothing is ever evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from synth_dspy.domains.functions.python_calls import PythonReader, python_call, python_value
from synth_dspy.domains.functions.schema import Call, CallSyntaxError, Function

__all__ = ["CallSyntaxError", "Syntax", "annotation", "describe", "parse", "render", "tool_messages", "tools_json"]

Syntax = Literal["json", "python"]

_FENCE = re.compile(r"\s*```\w*\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_BETWEEN = re.compile(r"(?:\s|</?tool_call>)*")  # Hermes-style chat templates put each call in tags


def render(calls: Sequence[Call], syntax: Syntax) -> str:
    """Calls as text; `[]` if there are none. `parse` returns the same calls."""
    if syntax == "python":
        return "[" + ", ".join(python_call(call) for call in calls) + "]"
    value = [call.as_json() for call in calls]
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: legal in JSON only when escaped
        text = json.dumps(value)
    return text


def parse(text: str, syntax: Syntax, functions: Iterable[Function] = ()) -> list[Call]:
    """The calls in a text.

    A code fence around it is ignored, and a single call need not stand in an array. JSON may also be in OpenAI's
    `tool_calls` form, have "parameters" for "arguments", and be in `<tool_call>` tags.

    Args:
        text: A whole reply.
        syntax: Its syntax.
        functions: Functions whose signatures name the positional arguments of Python calls.

    Raises:
        CallSyntaxError: the text is anything else, or has anything else around it.
    """
    fenced = _FENCE.fullmatch(text)
    if fenced:
        text = fenced[1]
    if syntax == "json":
        return _parse_json(text)
    return PythonReader(text, {function.name: function for function in functions}).calls()


# -- JSON -------------------------------------------------------------------------------------------------------------


def _parse_json(text: str) -> list[Call]:
    values, place = [], _BETWEEN.match(text).end()  # type: ignore[union-attr]
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    try:
        while place < len(text):
            value, place = decoder.raw_decode(text, place)
            values.append(value)
            place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]
    except json.JSONDecodeError as error:
        raise CallSyntaxError(f"not JSON: {error.msg}", error.lineno, error.colno) from None
    except (ValueError, RecursionError) as error:  # NaN, integers of thousands of digits, thousands of brackets
        raise CallSyntaxError(f"not JSON: {error}") from None
    if not values:
        raise CallSyntaxError("empty; to call nothing, write []")
    try:
        return [call for value in values for call in _json_calls(value)]
    except (ValueError, RecursionError) as error:
        raise CallSyntaxError(str(error)) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _json_calls(value: Any) -> list[Call]:
    """The calls in a reply's JSON, in any of the usual forms."""
    if isinstance(value, list):
        return [call for each in value for call in _json_calls(each)]
    if not isinstance(value, Mapping):
        raise ValueError(f"a call is an object with a name and arguments, not {json.dumps(value)[:60]}")
    if isinstance(value.get("tool_calls"), list):
        return _json_calls(value["tool_calls"])
    if isinstance(value.get("function"), Mapping):
        return _json_calls(value["function"])
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # OpenAI writes the arguments as JSON inside a string
        arguments = json.loads(arguments or "{}", parse_constant=_refuse_constant)
    return [Call.from_json({"name": value.get("name"), "arguments": {} if arguments is None else arguments})]


# -- functions --------------------------------------------------------------------------------------------------------


def describe(function: Function, style: Syntax = "python") -> str:
    """A function as a prompt shows it.

    "python" is a signature with a comment, which costs fewest tokens: `get_weather(city: str, days: int = 3)  #
    Forecast for a city. city: the city's name`. "json" is OpenAI's tool schema.
    """
    if style == "json":
        return json.dumps(tools_json([function])[0], ensure_ascii=False)
    definitions = function.parameters.get("$defs") or {}
    parts, notes = [], [_one_line(function.description)]
    for name, schema in function.properties.items():
        default = ""
        if name not in function.required:
            default = f" = {python_value(schema['default'])}" if "default" in schema else " = ..."
        parts.append(f"{name}: {annotation(schema, definitions)}{default}")
        notes += _notes(name, schema)
    returns = annotation(function.returns) if function.returns else ""
    signature = f"{function.name}({', '.join(parts)})" + (f" -> {returns}" if returns and returns != "Any" else "")
    comment = " ".join(note if note.endswith((".", "!", "?")) else f"{note}." for note in notes if note)
    return f"{signature}  # {comment}" if comment else signature


def tools_json(functions: Iterable[Function]) -> list[dict[str, Any]]:
    """Functions as the `tools` of a chat-format row: what chat templates and OpenAI-compatible servers take."""
    return [
        {
            "type": "function",
            "function": {
                "name": function.name,
                "description": function.description,
                "parameters": {"type": "object", "properties": {}, **function.parameters},
            },
        }
        for function in functions
    ]


def annotation(schema: Any, definitions: Mapping[str, Any] | None = None) -> str:
    """A JSON schema as a short Python type: `list[str]`, `"a" | "b"`, `{"x": float, "y"?: float}`, `date | None`."""
    if not isinstance(schema, Mapping):
        return "Any"
    definitions = definitions or schema.get("$defs") or {}
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return name  # recursive: named, not unfolded
    if "const" in schema or "enum" in schema:
        return " | ".join(python_value(value) for value in schema.get("enum", [schema.get("const")]))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(annotation(each, definitions) for each in schema[key]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(dict.fromkeys(annotation({**schema, "type": each}, definitions) for each in kind))
    match kind:
        case "string":
            return {"date": "date", "date-time": "datetime", "time": "time"}.get(schema.get("format", ""), "str")
        case "array" if "prefixItems" in schema:
            return f"tuple[{', '.join(annotation(each, definitions) for each in schema['prefixItems'])}]"
        case "array":
            return f"list[{annotation(schema['items'], definitions)}]" if schema.get("items") else "list"
        case "object" if schema.get("properties"):
            required = schema.get("required") or ()
            members = (
                f'"{name}"{"" if name in required else "?"}: {annotation(each, definitions)}'
                for name, each in schema["properties"].items()
            )
            return "{" + ", ".join(members) + "}"
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            return f"dict[str, {annotation(schema['additionalProperties'], definitions)}]"
    return {"integer": "int", "number": "float", "boolean": "bool", "null": "None", "object": "dict"}.get(
        str(kind), "Any"
    )


def _notes(path: str, schema: Any) -> list[str]:
    """The descriptions of an argument and of its parts, each with its path."""
    if not isinstance(schema, Mapping):
        return []
    note = _one_line(schema.get("description", ""))
    notes = [f"{path}: {note}"] if note else []
    for name, each in (schema.get("properties") or {}).items():
        notes += _notes(f"{path}.{name}", each)
    for each in (schema.get("items"), *(schema.get("anyOf") or ())):
        inner = _notes(path, each)
        notes += [text for text in inner if not (note and text.startswith(f"{path}: "))]
    return notes


def _one_line(text: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(text.strip().split("\n\n")[0].split())


def tool_messages(turns: Iterable[Mapping[str, Any]], system: str = "") -> list[dict[str, Any]]:
    """The chat messages of a conversation with calls.

    Args:
        turns: `role` with `content`, or `calls`: `Call`s or their JSON. An empty list of calls becomes the
            text `[]`.
        system: the system message; none if empty.
    """
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        calls = [call if isinstance(call, Call) else Call.from_json(call) for call in turn.get("calls") or ()]
        if calls:
            made = [{"type": "function", "function": call.as_json()} for call in calls]
            messages.append({"role": "assistant", "content": "", "tool_calls": made})
        else:
            messages.append({"role": turn["role"], "content": "[]" if "calls" in turn else str(turn["content"])})
    return messages
