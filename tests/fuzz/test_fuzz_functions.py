"""Functions that are described in files, and what models reply."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest
import yaml
from dspy.utils.exceptions import AdapterParseError
from hypothesis import strategies as st
from inputs import ESCAPES, altered, as_json, damaged, json_files

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.canonical import canonical, gaps_of
from synth_dspy.domains.functions.openapi import read_document
from synth_dspy.domains.functions.prompts import show_functions
from synth_dspy.domains.functions.schema import Call, Function, calls_schema, validate
from synth_dspy.domains.functions.syntax import CallSyntaxError, describe, parse, render
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.models.grammar.close import close_json, close_json_calls, close_python_calls

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where.", "pattern": "^[a-z]+$", "example": "oslo", "maxLength": 20},
        "days": {"type": ["integer", "null"], "minimum": 1, "maximum": 14, "default": 3},
        "units": {"enum": ["c", "f"]},
        "stops": {"type": "array", "items": {"$ref": "#/$defs/stop"}, "maxItems": 3},
        "more": {
            "anyOf": [{"type": "string"}, {"allOf": [{"type": "object", "properties": {"a": {"type": "number"}}}]}]
        },
    },
    "required": ["city"],
    "additionalProperties": {"type": "string"},
    "patternProperties": {"^x-": {"type": "integer"}},
    "$defs": {"stop": {"type": "object", "properties": {"next": {"$ref": "#/$defs/stop"}}}},
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}},
    {
        "name": "other",
        "inputSchema": {"type": "dict", "properties": {"x": {"type": "float"}}},
        "annotations": {"readOnlyHint": True},
    },
]
OPENAPI = {
    "openapi": "3.1.0",
    "paths": {
        "/orders/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "post": {
                "operationId": "update",
                "summary": "Updates.",
                "parameters": [{"$ref": "#/components/parameters/page"}],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                },
                "responses": {
                    "200": {
                        "description": "ok",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                    }
                },
            },
        }
    },
    "components": {
        "parameters": {
            "page": {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 0}, "example": 1}
        },
        "schemas": {
            "Order": {
                "allOf": [{"$ref": "#/components/schemas/Base"}],
                "type": "object",
                "properties": {
                    "note": {"type": "string", "nullable": True},
                    "parent": {"$ref": "#/components/schemas/Order"},
                },
            },
            "Base": {
                "type": "object",
                "required": ["number"],
                "properties": {"number": {"type": "string", "readOnly": True}},
            },
        },
    },
}
FUNCTION = Function("f", "does", SCHEMA)
CALLS = '[{"name": "f", "arguments": {"city": "oslo", "days": 2, "stops": [{"next": {"next": {}}}]}}]'
PYTHON = '[f(city="oslo", days=2, stops=[{"next": {"next": {}}}]), g(x=-1.5, y=[True, None], z=h(q="it\'s"))]'


def used(path: Path) -> object:
    """All that is made of functions that are read: what a prompt shows, a grammar, what they lack."""
    functions, gaps = read_document(path)
    schema = calls_schema(functions, most=3, nested=1)
    for function in functions:
        list(gaps_of(function.name, function.parameters, "f", lambda _: 1))
        validate(Call(function.name, {"city": "a" * 40, "x": 1}), [function])
    return (
        show_functions(functions),
        [describe(f, s) for f in functions for s in ("python", "json")],
        json.dumps(schema),
        gaps,
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")  # "[[" in a pattern
@pytest.mark.parametrize("valid", [TOOLS, OPENAPI, {"tools": TOOLS}], ids=["tools", "openapi", "listed"])
def test_functions_in_files(valid: Any, fuzz: Any, fresh: Callable[[], Path]) -> None:
    folder = fresh()

    def read(name: str, content: bytes) -> object:
        (folder / name).write_bytes(content)
        return used(folder / name)

    assert read("api.json", as_json(valid))
    fuzz(json_files(valid), lambda content: read("api.json", content))
    fuzz(damaged(yaml.safe_dump(valid).encode()), lambda content: read("api.yaml", content))
    fuzz(
        altered(valid).map(lambda value: yaml.safe_dump(value, allow_unicode=True).encode(errors="replace")),
        lambda c: read("api.yaml", c),
    )


SYNTAXES = [("json", CALLS), ("python", PYTHON)]


@pytest.mark.parametrize(("syntax", "valid"), SYNTAXES)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_calls_that_models_write(syntax: Any, valid: str, fuzz: Any) -> None:
    def read(content: bytes) -> object:
        calls = parse(content.decode(errors="replace"), syntax, [FUNCTION])
        for each in calls:
            validate(each, [FUNCTION])
        assert parse(render(calls, "json"), "json") == calls
        return render(calls, "python")

    assert read(valid.encode())
    fuzz(damaged(valid.encode()), read, CallSyntaxError)
    if syntax == "json":
        fuzz(altered(json.loads(valid)).map(as_json), read, CallSyntaxError)


@pytest.mark.parametrize("close", [close_json, close_json_calls, close_python_calls])
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_replies_that_are_cut(close: Callable[[str], str | None], fuzz: Any) -> None:
    valid = (PYTHON if close is close_python_calls else CALLS).encode()
    fuzz(damaged(valid), lambda content: close(content.decode(errors="replace")))
    fuzz(st.integers(0, len(valid)).map(lambda size: valid[:size]), lambda content: close(content.decode()))


def test_replies_of_one_field(fuzz: Any) -> None:
    signature = dspy.Signature("question -> answer")
    fuzz(
        damaged(f"Answer: 31 March {ESCAPES}".encode()),
        lambda content: PlainAdapter().parse(signature, content.decode(errors="replace")),
        AdapterParseError,
    )


# -- what broke --------------------------------------------------------------------------------------------------------


def doubling(levels: int) -> dict[str, Any]:
    """Schemas of which each holds the next one twice: 2**levels when unfolded."""
    schemas: dict[str, Any] = {f"S{levels}": {"type": "string"}}
    for level in range(levels):
        inner = {"$ref": f"#/components/schemas/S{level + 1}"}
        schemas[f"S{level}"] = {"type": "object", "properties": {"a": inner, "b": inner}}
    operation = {
        "operationId": "f",
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}},
    }
    return {"openapi": "3.0.0", "paths": {"/": {"post": operation}}, "components": {"schemas": schemas}}


NAMELESS = '{"openapi": "3.0", "paths": {"/": {"get": {"parameters": [{"in": "path", "schema": {}}]}}}}'
LAUGHS = "k0: &k0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"k{level + 1}: &k{level + 1} [{', '.join([f'*k{level}'] * 9)}]\n" for level in range(9)
)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", json.dumps(doubling(40)), "expands to more than 50,000 parts"),
        ("a.json", json.dumps(doubling(300)), "nested more than 64 deep"),
        ("a.json", "[" * 100_000, "not valid JSON: recursion limit"),
        ("a.json", '{"tools": [{"function": 3}]}', "without a name"),
        ("a.json", NAMELESS, "KeyError: 'name'"),
        ("a.yaml", "- " * 20_000, "a.yaml"),
        ("a.yaml", LAUGHS, "more than 1,000,000 values"),
        ("a.yaml", "&a [*a]", "more than 1,000,000 values"),
        ("a.yaml", "tools: !!python/object/apply:os.system [id]", "not valid YAML"),
        ("a.yaml", "x: !!binary aGk=", "type bytes"),
    ],
)  # fmt: skip
def test_a_file_of_functions_is_refused_in_one_sentence(name: str, content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SetupError, match=reason):
        read_document(tmp_path / name)


def test_a_schemas_pattern_cannot_hold_up_a_run() -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a|a)*$"}}}
    problems = validate(Call("f", {"x": "a" * 60 + "!"}), [Function("f", "", schema)])
    assert problems == ["argument x: the pattern '^(a|a)*$' takes too long to match " + repr("a" * 60)[:57] + "..."]


SLOW = {"type": "string", "pattern": "^(a|a)*$"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": SLOW}, ["a" * 60 + "!"] * 2000),  # a little time for each is too much for all
        ({"anyOf": [{**SLOW, "maxLength": 100 + number} for number in range(500)]}, "a" * 60 + "!"),
        ({"type": "object", "patternProperties": {"^(a|a)*$": SLOW}}, {"a" * 60 + "!": 1}),
        (
            {"type": "object", "patternProperties": {"a*a*a*a*a*[cd]$": SLOW}},
            {"a" * 900 + "b" * number: 1 for number in range(9)},
        ),
        (
            {"type": "object", "patternProperties": {"(a|a)*b$": {}}, "additionalProperties": False},
            {"a" * 60 + "!" * number: 1 for number in range(300)},
        ),
    ],
)
def test_nor_can_many_patterns_or_texts(schema: dict[str, Any], value: Any) -> None:
    function = Function("f", "", {"type": "object", "properties": {"x": canonical(schema)}})
    began = time.process_time()
    assert validate(Call("f", {"x": value}), [function])
    assert time.process_time() - began < 10


def test_a_list_of_different_objects_is_checked_in_linear_time() -> None:
    items = {"type": "array", "uniqueItems": True}
    function = Function("f", "", {"type": "object", "properties": {"x": items}})
    rows: list[Any] = [{"n": number} for number in range(20_000)]
    assert validate(Call("f", {"x": [*rows, 1, True, "1", [1], None]}), [function]) == []
    for twice in ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], [1, 1.0], [[0, {"a": 2}], [0, {"a": 2.0}]]):
        assert "non-unique" in validate(Call("f", {"x": [*rows, *twice]}), [function])[0]


@pytest.mark.parametrize(
    "bound",
    [
        *({"multipleOf": factor} for factor in (0, -1, True, "2")),
        *({f"exclusive{name}imum": value} for name, value in (("Max", 10**400), ("Min", -(10**400)))),
        *({"maximum": value} for value in (float("inf"), float("nan"))),
        *({name: 10**30} for name in ("maxLength", "maxItems", "maxProperties")),
    ],
)
def test_a_bound_that_bounds_nothing_is_left_out(bound: dict[str, Any]) -> None:
    assert canonical({"type": "integer", **bound}) == {"type": "integer"}


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "f", "arguments": {"x": ' + "[" * 150 + "]" * 150 + "}}]",
        '[{"name": "f", "arguments": {"x": 0}}' + "]" * 9,
    ],
)
def test_calls_too_deep_or_too_long_are_no_calls(text: str) -> None:
    with pytest.raises(CallSyntaxError):
        parse(text, "json")


def test_a_number_that_cannot_be_written_is_refused_where_it_is_read() -> None:
    with pytest.raises(CallSyntaxError, match="thousands of digits"):
        parse("[f(x=0x" + "f" * 5_000 + ")]", "python")


def test_thousands_of_brackets_are_closed_quickly_or_not_at_all() -> None:
    for close in (close_json, close_json_calls, close_python_calls):
        assert close("[" * 50_000) is None
        assert close('[{"$call": 5}, {"name": "f", "arguments": {"x": 1') is not None
