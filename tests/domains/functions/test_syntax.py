"""Each syntax of calls, there and back, and functions as prompts show them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from synth_dspy.domains.functions.schema import Call, Function
from synth_dspy.domains.functions.syntax import CallSyntaxError, Syntax, describe, parse, render, tools_json

WEATHER = Function(
    "get_weather",
    "Forecast for a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "the city's name"},
            "days": {"type": "integer", "default": 3},
        },
        "required": ["city"],
    },
    returns={"type": "number"},
)
NAMES = ["f", "get_weather", "maps.places.find", "get-weather", "class", "a.1b", "é", "ﬁ", "functions", "None", "x y"]
STRINGS = [
    "",
    "Oslo",
    "it's",
    'say "hi"',
    "both ' and \"",
    "a\\nb\n\t\0",
    "{}[]()",
    "naïve 🐱",
    "\ud800",
    "</tool_call>",
    "```",
    "\\",
]
NUMBERS = [0, -1, 7, 10**30, -(10**18), 0.1, -2.5, 1e300, 5e-324, -0.0, 1e16, 3.0]
KEYS = ["a", "city", "user-id", "from", "self", "é", "ﬁ", "", "$x", "2"]


def random_value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(8 if depth else 4)
    if kind == 0:
        return rng.choice(STRINGS)
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind == 2:
        return rng.choice([True, False, None])
    if kind == 3:
        return "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x250)])) for _ in range(rng.randrange(9)))
    if kind in (4, 5):
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        return {rng.choice(KEYS): random_value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return random_call(rng, depth - 1)


def random_call(rng: random.Random, depth: int) -> Call:
    keys = rng.sample(KEYS, rng.randrange(4))
    return Call(rng.choice(NAMES), {key: random_value(rng, depth) for key in keys})


@pytest.mark.parametrize("syntax", ["json", "python"])
def test_any_calls_come_back_as_they_were(syntax: Syntax) -> None:
    rng = random.Random(1)
    for _ in range(1_500):
        calls = [random_call(rng, 3) for _ in range(rng.randrange(4))]
        again = parse(render(calls, syntax), syntax)
        # repr tells 1 from True and 3 from 3.0, and shows the order of arguments in JSON.
        assert sorted_repr(again) == sorted_repr(calls)


def sorted_repr(calls: list[Call]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, Call):
            return f"{value.name}({text(value.arguments)})"
        if isinstance(value, dict):
            return "{" + ",".join(f"{key!r}:{text(value[key])}" for key in sorted(value)) + "}"
        return "[" + ",".join(map(text, value)) + "]" if isinstance(value, list) else repr(value)

    return "; ".join(map(text, calls))


def test_both_syntaxes_look_as_documented() -> None:
    calls = [Call("get_weather", {"city": Call("home", {}), "days": 2}), Call("x-y", {"from": [None, True]})]
    assert render(calls, "json") == (
        '[{"name": "get_weather", "arguments": {"city": {"$call": {"name": "home", "arguments": {}}}, "days": 2}}, '
        '{"name": "x-y", "arguments": {"from": [null, true]}}]'
    )
    assert render(calls, "python") == ('[get_weather(city=home(), days=2), functions["x-y"](**{"from": [None, True]})]')
    assert render([], "json") == render([], "python") == "[]"


ONE = [Call("f", {"x": 1})]


@pytest.mark.parametrize(
    "text",
    [
        '```json\n[{"name": "f", "arguments": {"x": 1}}]\n```',
        '{"name": "f", "parameters": {"x": 1}}',
        '  {"name": "f", "arguments": {"x": 1}}\n',
        '{"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\\"x\\": 1}"}}]}',
        '[{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]',
        '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>',
    ],
)
def test_the_usual_forms_of_json_are_read(text: str) -> None:
    assert parse(text, "json") == ONE


def test_several_tool_call_tags_are_several_calls() -> None:
    text = '<tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call>\n<tool_call>{"name": "g"}</tool_call>'
    assert parse(text, "json") == [*ONE, Call("g", {})]


@pytest.mark.parametrize(
    "text", ["f(x=1)", "```python\n[f(x=1)]\n```", "(f(x=1),)", " f(x=+1) ", "[\n  f(\n    x=1,\n  ),\n]"]
)
def test_the_usual_forms_of_python_are_read(text: str) -> None:
    assert parse(text, "python") == ONE


def test_python_statements_are_several_calls_and_json_words_are_understood() -> None:
    assert parse("f(x=true)\ng(y=(1, null))", "python") == [Call("f", {"x": True}), Call("g", {"y": [1, None]})]


def test_positional_arguments_take_the_functions_names() -> None:
    expected = [Call("get_weather", {"city": "Oslo", "days": 2})]
    assert parse('get_weather("Oslo", 2)', "python", [WEATHER]) == expected
    assert parse('get_weather("Oslo", days=2)', "python", [WEATHER]) == expected


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("Sorry, I cannot.", 1, 10, "not Python"),
        ("", 1, 1, "empty; to call nothing"),
        ("x = 1", 1, 1, "not a call"),
        ("f(a=1)\ng(b=os.environ)", 2, 5, "neither a literal nor a call"),
        ('f(a="é", b=c)', 1, 12, "neither a literal nor a call"),
        ("f(1)", 1, 3, "need their names"),
        ('get_weather("a", city="b")', 1, 23, "given twice"),
        ("get_weather(1, 2, 3)", 1, 19, "takes 2 arguments"),
        ("f(**3)", 1, 5, "followed by a dict"),
        ("f(a={1: 2})", 1, 6, "keys of a dict"),
        ("f(a=1e999)", 1, 5, "too large"),
        ("f(a=b'x')", 1, 5, "neither"),
        ("f(a=1 + 1)", 1, 5, "neither"),
        ("f()(a=1)", 1, 1, "not the name of a function"),
        ("f(a=f'{x}')", 1, 5, "neither"),
        ("(" * 5_000, 1, 201, "not Python"),
        ("f(a=" * 3_000 + "1" + ")" * 3_000, 1, 201, "not Python"),
    ],
)
def test_what_is_wrong_in_python_is_said_with_its_place(text: str, line: int, column: int, problem: str) -> None:
    with pytest.raises(CallSyntaxError, match=problem) as caught:
        parse(text, "python", [WEATHER])
    if len(text) < 1_000:
        assert (caught.value.line, caught.value.column) == (line, column)
        assert str(caught.value).startswith(f"line {line}, column {column}: ")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Sorry", "line 1, column 1: not JSON"),
        ("", "empty; to call nothing"),
        ('[\n{"name": "f",}]', "line 2, column 1[34]: not JSON"),
        ("[1]", "not 1"),
        ('{"arguments": {}}', "a name and arguments"),
        ('{"name": "f", "arguments": 3}', "arguments of f are an object"),
        ('{"name": "f", "arguments": "{"}', "line 1"),
        ('[{"name": "f"}] and so on', "column 17: not JSON"),
        ('{"name": "f", "arguments": {"x": NaN}}', "NaN is not a JSON number"),
        ('{"name": "f", "arguments": {"x": 1e999}}', "argument x: inf"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_in_json_is_said(text: str, problem: str) -> None:
    with pytest.raises(CallSyntaxError, match=problem):
        parse(text, "json")


def test_a_function_is_described_as_a_signature() -> None:
    assert describe(WEATHER) == (
        "get_weather(city: str, days: int = 3) -> float  # Forecast for a city. city: the city's name."
    )


def test_types_are_written_as_python_writes_them() -> None:
    properties = {
        "a": {"enum": ["x", "y"]},
        "b": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None},
        "c": {
            "type": "array",
            "items": {"type": "object", "properties": {"x": {"type": "number", "description": "east"}}},
        },
        "d": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "e": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]},
        "f": {"type": ["integer", "null"]},
        "g": {},
    }
    function = Function("f", "", {"type": "object", "properties": properties, "required": ["a"]})
    assert describe(function) == (
        'f(a: "x" | "y", b: date | None = None, c: list[{"x"?: float}] = ..., d: dict[str, bool] = ..., '
        "e: tuple[int, str] = ..., f: int | None = ..., g: Any = ...)  # c.x: east."
    )


def test_the_json_description_is_openais_and_costs_more() -> None:
    tool = json.loads(describe(WEATHER, "json"))
    assert tool == tools_json([WEATHER])[0]
    assert tool["type"] == "function"
    assert tool["function"] == {
        "name": "get_weather",
        "description": "Forecast for a city.",
        "parameters": WEATHER.parameters,
    }
    assert len(describe(WEATHER)) < len(describe(WEATHER, "json")) / 2
