"""The canonical form: calls as JSON, what is wrong with a call, and the schema of a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from synth_dspy.domains.functions.schema import Call, Function, calls_schema, validate

PLACE = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x"]}


def function(name: str = "weather.get", returns: dict[str, Any] | None = None, **properties: Any) -> Function:
    required = [key for key, schema in properties.items() if "default" not in schema]
    return Function(name, "", {"type": "object", "properties": properties, "required": required}, returns=returns)


FORECAST = function(
    city={"type": "string"},
    days={"type": "integer", "default": 3},
    unit={"enum": ["c", "f"], "default": "c"},
    at={"anyOf": [PLACE, {"type": "null"}], "default": None},
    on={"type": "string", "format": "date", "default": "2025-01-01"},
    tags={"type": "array", "items": {"type": "string"}, "default": []},
)
HOME = function("home", returns={"type": "string"})
COUNT = function("count", returns={"anyOf": [{"type": "integer"}, {"type": "null"}]}, of={"type": "string"})
ALL = [FORECAST, HOME, COUNT]


def test_a_call_survives_json_with_calls_inside_lists_and_objects() -> None:
    call = Call("f", {"a": Call("g", {"b": [Call("h", {}), {"c": Call("i", {"d": None})}]}), "e": {"name": "x"}})
    again = Call.from_json(json.loads(json.dumps(call.as_json())))
    assert again == call
    assert call.as_json()["arguments"]["a"] == {"$call": again.arguments["a"].as_json()}
    assert [each.name for each in call.inner()] == ["g", "h", "i"]


def test_tuples_become_lists() -> None:
    assert Call("f", {"a": (1, (2,))}).arguments == {"a": [1, [2]]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {1, 2}, b"x", {"$call": 1}, object()])
def test_arguments_are_json(value: Any) -> None:
    with pytest.raises(ValueError, match=r"argument a\.b"):
        Call("f", {"a": {"b": value}})


@pytest.mark.parametrize("value", [1, None, {}, {"name": 1}, {"name": "f", "arguments": [1]}])
def test_what_is_no_call_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="object"):
        Call.from_json(value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"city": "Oslo"},
        {"city": "Oslo", "days": -2, "unit": "f", "at": {"x": 1}, "on": "2024-02-29", "tags": ["a"]},
        {"city": "Oslo", "at": None, "tags": []},
        {"city": Call("home", {}), "days": Call("count", {"of": "x"}), "tags": [Call("home", {})]},
    ],
)
def test_valid_calls_have_no_problems(arguments: dict[str, Any]) -> None:
    assert validate(Call("weather.get", arguments), ALL) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "missing argument city"),
        ({"city": "a", "town": "b"}, "unknown argument town"),
        ({"city": 3}, "argument city: 3 is not of type string"),
        ({"city": "a", "days": 3.0}, "argument days: 3.0 is not of type integer"),
        ({"city": "a", "days": True}, "argument days: True is not of type integer"),
        ({"city": "a", "unit": "k"}, "argument unit: 'k' is not one of ['c', 'f']"),
        ({"city": "a", "at": {"x": "1"}}, "argument at.x: '1' is not of type number"),
        ({"city": "a", "at": 3}, "argument at: 3 is not of type null or object"),
        ({"city": "a", "on": "2025-02-29"}, "argument on: '2025-02-29' is not a 'date'"),
        ({"city": "a", "on": "20250228"}, "argument on: '20250228' is not a 'date'"),
        ({"city": "a", "tags": ["b", 3]}, "argument tags[1]: 3 is not of type string"),
        ({"city": Call("count", {"of": "x"})}, "argument city: the result of count is not of type string"),
        ({"city": Call("house", {})}, "in house: unknown function house"),
        ({"city": Call("home", {"x": 1})}, "in home: unknown argument x"),
        ({"city": "a", "tags": [Call("count", {"of": 1})]}, "in count: argument of: 1 is not of type string"),
    ],
)
def test_problems_are_said_in_words(arguments: dict[str, Any], problem: str) -> None:
    assert problem in validate(Call("weather.get", arguments), ALL)


def test_an_unknown_function_is_one_problem() -> None:
    assert validate(Call("nope", {"x": 1}), ALL) == ["unknown function nope"]


def test_other_names_are_allowed_where_the_schema_says_so() -> None:
    open_ended = Function("f", "", {"type": "object", "properties": {}, "additionalProperties": {"type": "integer"}})
    assert validate(Call("f", {"a": 1}), [open_ended]) == []
    assert validate(Call("f", {"a": "1"}), [open_ended]) == ["argument a: '1' is not of type integer"]


def test_references_are_followed() -> None:
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}
    grow = Function(
        "grow", "", {"type": "object", "properties": {"t": {"$ref": "#/$defs/Tree"}}, "$defs": {"Tree": tree}}
    )
    assert validate(Call("grow", {"t": {"kids": [{"kids": []}]}}), [grow]) == []
    assert validate(Call("grow", {"t": {"kids": [{"kids": 3}]}}), [grow]) == [
        "argument t.kids[0].kids: 3 is not of type array"
    ]


def accepts(schema: dict[str, Any], calls: list[Call]) -> bool:
    return Draft202012Validator(schema).is_valid([call.as_json() for call in calls])


def test_the_schema_of_a_reply_takes_valid_calls_and_no_call_and_nothing_else() -> None:
    schema = calls_schema(ALL)
    good = Call("weather.get", {"city": "Oslo"})
    assert accepts(schema, [])
    assert accepts(schema, [good, Call("home", {})])
    assert not accepts(schema, [Call("weather.get", {})])
    assert not accepts(schema, [Call("home", {"x": 1})])
    assert not accepts(schema, [Call("weather.get", {"city": "Oslo", "at": {"x": 1, "z": 2}})])
    assert not accepts(schema, [Call("other", {})])
    assert not accepts(schema, [Call("weather.get", {"city": Call("home", {})})])
    assert not accepts(calls_schema(ALL, most=1), [good, good])


def test_what_may_be_left_out_is_named_at_every_depth() -> None:
    arguments = calls_schema([FORECAST])["items"]["anyOf"][0]["properties"]["arguments"]
    assert arguments["required"] == ["city"]
    assert arguments["x-optional"] == ["days", "unit", "at", "on", "tags"]
    assert arguments["properties"]["at"]["anyOf"][0]["x-optional"] == ["y"]
    assert "default" not in json.dumps(arguments)
    assert "x-optional" not in json.dumps(calls_schema([HOME]))


def test_nested_calls_are_allowed_to_the_depth_asked_for() -> None:
    one = [Call("weather.get", {"city": Call("home", {})})]
    two = [Call("weather.get", {"city": Call("count", {"of": Call("home", {})})})]
    assert accepts(calls_schema(ALL, nested=1), one)
    assert not accepts(calls_schema(ALL, nested=1), two)
    assert accepts(calls_schema(ALL, nested=2), two)


def test_without_functions_there_is_only_no_call() -> None:
    assert accepts(calls_schema([]), [])
    assert not accepts(calls_schema([]), [Call("f", {})])


def test_models_of_one_name_in_two_functions_stay_apart() -> None:
    def with_model(name: str, kind: str) -> Function:
        model = {"type": "object", "properties": {"v": {"type": kind}, "m": {"$ref": "#/$defs/M"}}, "required": ["v"]}
        return Function(name, "", {"type": "object", "properties": {"m": {"$ref": "#/$defs/M"}}, "$defs": {"M": model}})

    schema = calls_schema([with_model("f", "string"), with_model("g", "integer")])
    assert accepts(schema, [Call("f", {"m": {"v": "a", "m": {"v": "b"}}}), Call("g", {"m": {"v": 1}})])
    assert not accepts(schema, [Call("f", {"m": {"v": 1}})])
    assert not accepts(schema, [Call("g", {"m": {"v": 1, "m": {"v": "a"}}})])
