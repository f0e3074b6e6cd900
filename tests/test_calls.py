"""Calls are right under BFCL's rules, and where they are not the cause is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.domains.functions.bfcl import accepted_form, read_bfcl
from synth_dspy.domains.functions.examples import calls_of
from synth_dspy.domains.functions.metrics import (
    MISSING,
    NAME,
    NEEDLESS,
    NUMBER,
    TYPE,
    UNKNOWN,
    VALUE,
    score_calls,
)
from synth_dspy.domains.functions.schema import Call, Function

WEATHER = Function(
    "weather.get",
    "Forecast for a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 3},
            "above": {"type": "number"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "hours": {"type": "array", "items": {"type": "integer"}},
            "alert": {"type": "boolean"},
            "places": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
            "area": {
                "type": "object",
                "properties": {
                    "north": {"type": "number"},
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "inner": {"type": "object", "properties": {"label": {"type": "string"}}},
                },
            },
            "anything": {},
        },
        "required": ["city"],
    },
)
ADD = Function(
    "add",
    "Sum.",
    {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]},
)
FUNCTIONS = [WEATHER, ADD]
OSLO = {"weather.get": {"city": ["Oslo", "Oslo, Norway"], "days": ["", 3], "unit": ["", "celsius"]}}


def weather(**arguments: Any) -> dict[str, Any]:
    return {"name": "weather.get", "arguments": arguments}


def add(a: Any, b: Any) -> dict[str, Any]:
    return {"name": "add", "arguments": {"a": a, "b": b}}


def why(arguments: dict[str, Any], accepted: dict[str, list[Any]]) -> str:
    """The verdict on one call of weather.get whose city is right."""
    calls = [weather(city="Oslo", **arguments)]
    return score_calls(calls, [{"weather.get": {"city": ["Oslo"], **accepted}}], FUNCTIONS).why


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        (weather(city="Oslo"), ""),
        (weather(city="oslo - Norway.", days=3, unit="Celsius"), ""),
        (add(1, 2), NAME),
        (weather(days=3), MISSING),
        (weather(city="Oslo", country="Norway"), UNKNOWN),
        (weather(city="Oslo", alert=True), UNKNOWN),
        (weather(city="Oslo", days="3"), TYPE),
        (weather(city="Oslo", days=3.0), TYPE),
        (weather(city="Oslo", days=True), TYPE),
        (weather(city="Bergen"), VALUE),
        (weather(city="Oslo", days=4), VALUE),
    ],
)
def test_one_call(call: dict[str, Any], cause: str) -> None:
    score = score_calls([call], [OSLO], FUNCTIONS)
    assert (score.ok, score.why) == (not cause, cause)
    assert bool(score.detail) == bool(cause)
    assert score_calls([Call.from_json(call)], [OSLO], FUNCTIONS) == score


def test_an_argument_that_may_not_be_left_out() -> None:
    assert why({}, {"days": [5]}) == MISSING
    assert why({}, {"days": [5, ""]}) == ""


def test_what_was_made_up_is_told_apart_from_what_is_wrong() -> None:
    unexpected = score_calls([weather(city="Oslo", alert=True)], [OSLO], FUNCTIONS)
    invented = score_calls([weather(city="Oslo", country="Norway")], [OSLO], FUNCTIONS)
    unknown = score_calls([{"name": "weather_get", "arguments": {"x": 1}}], [OSLO], FUNCTIONS)
    flags = [(s.hallucinated_name, s.hallucinated_argument) for s in (unexpected, invented, unknown)]
    assert flags == [(False, False), (False, True), (True, False)]
    inside = add(1, {"$call": {"name": "adds", "arguments": {}}})
    assert score_calls([inside], [OSLO], FUNCTIONS).hallucinated_name


@pytest.mark.parametrize(
    ("given", "accepted", "cause"),
    [
        ({"above": 5}, {"above": [5.0]}, ""),
        ({"above": 5.5}, {"above": [5]}, VALUE),
        ({"above": "five"}, {"above": [5.0]}, TYPE),
        ({"hours": [6, 12]}, {"hours": [[6, 12], [12, 6]]}, ""),
        ({"hours": [12]}, {"hours": [[6, 12]]}, VALUE),
        ({"hours": ["6", 12]}, {"hours": [[6, 12]]}, TYPE),
        ({"hours": [6.0, 12]}, {"hours": [[6, 12]]}, TYPE),
        ({"hours": 6}, {"hours": [[6]]}, TYPE),
        ({"alert": True}, {"alert": [True]}, ""),
        ({"alert": 1}, {"alert": [True]}, TYPE),
        # objects: a list of accepted values for each key, at every depth
        ({"area": {"north": 60}}, {"area": [{"north": [60.0], "tags": ["", ["a"]]}]}, ""),
        ({"area": {"north": 60, "tags": ["A."]}}, {"area": [{"north": [60.0], "tags": ["", ["a"]]}]}, ""),
        ({"area": {"tags": ["a"]}}, {"area": [{"north": [60.0], "tags": [["a"]]}]}, VALUE),
        ({"area": {"north": 60, "south": 1}}, {"area": [{"north": [60.0]}]}, VALUE),
        ({"area": {"north": "60"}}, {"area": [{"north": [60.0]}]}, TYPE),
        ({"area": {"inner": {"label": "x-1"}}}, {"area": [{"inner": [{"label": ["X 1", "y"]}]}]}, ""),
        ({"area": {"inner": {"label": "z"}}}, {"area": [{"inner": [{"label": ["X 1", "y"]}]}]}, VALUE),
        ({"area": {"inner": {"label": 3}}}, {"area": [{"inner": [{"label": ["X 1", "y"]}]}]}, TYPE),
        # literals inside objects, as `accepted_form` writes them
        ({"area": {"north": 60, "tags": ["a", "b"]}}, {"area": [{"north": 60, "tags": ["a", "b"]}]}, ""),
        ({"area": {"north": 60, "tags": ["a"]}}, {"area": [{"north": 60, "tags": ["a", "b"]}]}, VALUE),
        # lists of objects, in order
        ({"places": [{"name": "A"}, {"name": "b"}]}, {"places": [[{"name": ["a"]}, {"name": ["B"]}]]}, ""),
        ({"places": [{"name": "b"}, {"name": "a"}]}, {"places": [[{"name": ["a"]}, {"name": ["b"]}]]}, VALUE),
        ({"places": [{"name": "a"}]}, {"places": [[{"name": ["a"]}, {"name": ["b"]}]]}, VALUE),
        # a variable for a value: its own type passes, and it is compared as it is written
        ({"days": "forecast_days"}, {"days": ["forecast_days"]}, ""),
        ({"days": "Forecast_Days"}, {"days": ["forecast_days"]}, VALUE),
        ({"days": 3}, {"days": ["forecast_days"]}, VALUE),
        ({"anything": 3}, {"anything": ["x", 3]}, ""),
        ({"anything": "X"}, {"anything": ["x", 3]}, ""),
        ({"anything": True}, {"anything": [1]}, VALUE),
        ({"unit": None}, {"unit": ["", None]}, ""),
        ({"unit": 'it"s'}, {"unit": ["It's"]}, ""),
    ],
)  # fmt: skip
def test_values(given: dict[str, Any], accepted: dict[str, list[Any]], cause: str) -> None:
    assert why(given, accepted) == cause


def test_parallel_calls_come_in_any_order() -> None:
    expected = [{"add": {"a": [1], "b": [2]}}, {"add": {"a": [3], "b": [4]}}, OSLO]
    assert score_calls([weather(city="Oslo"), add(3, 4), add(1, 2)], expected, FUNCTIONS).ok
    wrong = score_calls([weather(city="Oslo"), add(3, 4), add(1, 9)], expected, FUNCTIONS)
    assert (wrong.why, wrong.detail) == (VALUE, "b of add")
    assert score_calls([add(3, 4), add(1, 2), add(1, 2)], expected, FUNCTIONS).why == NAME
    assert score_calls([add(3, 4), add(1, 2)], expected, FUNCTIONS).why == NUMBER


def test_calls_find_their_partners_in_the_best_way() -> None:
    either = [{"add": {"a": [1, 3], "b": [2]}}, {"add": {"a": [1], "b": [2]}}]
    assert score_calls([add(1, 2), add(3, 2)], either, FUNCTIONS).ok
    assert not score_calls([add(3, 2), add(3, 2)], either, FUNCTIONS).ok


def test_no_call_and_any_call() -> None:
    assert score_calls([], [], FUNCTIONS).ok
    assert score_calls([add(1, 2)], [], FUNCTIONS).why == NEEDLESS
    assert score_calls([], [OSLO], FUNCTIONS).why == NUMBER
    assert score_calls([add(1, 2)], None, FUNCTIONS).ok
    assert score_calls([], None, FUNCTIONS).why == NUMBER


def test_calls_inside_arguments() -> None:
    inner = Call("add", {"a": 1, "b": 2})
    outer = Call("add", {"a": inner, "b": 3})
    as_json, as_accepted = (
        accepted_form(outer, ADD),
        {"add": {"a": [{"$call": {"add": {"a": [1, 5], "b": [2]}}}], "b": [3]}},
    )
    for expected in (as_json, as_accepted):
        assert score_calls([outer], [expected], FUNCTIONS).ok
        assert score_calls([outer.as_json()], [expected], FUNCTIONS).ok
        assert (
            score_calls([Call("add", {"a": Call("add", {"a": 9, "b": 2}), "b": 3})], [expected], FUNCTIONS).why == VALUE
        )
        assert score_calls([add(3, 3)], [expected], FUNCTIONS).why == VALUE
    assert score_calls([outer], [{"add": {"a": [3], "b": [3]}}], FUNCTIONS).why == VALUE


def test_references_in_schemas_are_followed() -> None:
    node = {"$ref": "#/$defs/Node"}
    properties = {"value": {"type": "number"}, "next": {"anyOf": [node, {"type": "null"}]}}
    schema = {
        "type": "object",
        "properties": {"tree": node},
        "required": ["tree"],
        "$defs": {"Node": {"type": "object", "properties": properties}},
    }
    grow = Function("grow", "", schema)
    expected = [{"grow": {"tree": [{"value": [1.0], "next": [{"value": [2.0], "next": ["", None]}]}]}}]
    right = {"name": "grow", "arguments": {"tree": {"value": 1, "next": {"value": 2}}}}
    assert score_calls([right], expected, [grow]).ok
    wrong = copy.deepcopy(right)
    wrong["arguments"]["tree"]["next"]["value"] = "2"
    assert score_calls([wrong], expected, [grow]).why == TYPE


def test_turns_of_a_conversation_are_scored_strictly() -> None:
    expected = [[], [OSLO, {"add": {"a": [1], "b": [2]}}]]

    def whys(*turns: list[Call]) -> list[str]:
        return [
            score_calls(turn, right, FUNCTIONS, strict=True).why for turn, right in zip(turns, expected, strict=True)
        ]

    assert whys([], [weather(city="Oslo"), add(1, 2)]) == ["", ""]
    assert whys([], [add(1, 2), weather(city="Oslo")]) == ["", NAME]
    assert whys([add(1, 2)], [weather(city="OSLO"), add(1, 2)]) == [NEEDLESS, VALUE]


def test_a_call_as_its_own_answer() -> None:
    call = Call("weather.get", {"city": "Oslo", "days": 3})
    form = accepted_form(call, WEATHER)
    assert form["weather.get"]["days"] == [3, ""]
    assert form["weather.get"]["unit"] == ["", "celsius"]
    assert form["weather.get"]["above"] == [""]
    assert score_calls([weather(city="Oslo", unit="celsius")], [form], FUNCTIONS).ok
    assert score_calls([weather(city="Oslo", days=4)], [form], FUNCTIONS).why == VALUE


def test_every_public_item_accepts_its_own_answer_and_no_other_function(shared_data: Path) -> None:
    folder = shared_data / "bfcl"
    if not folder.is_dir():
        pytest.skip("BFCL is not here")
    items = read_bfcl(folder)
    assert len(items) == sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.jsonl"))
    unanswerable = 0
    for item in items:
        for expected in item.ground_truth:
            strict = item.category.startswith("multi_turn")
            calls = [_first(each, item.functions) for each in expected or ()]
            right = score_calls(calls, expected, item.functions, strict=strict)
            answerable = expected is not None and all(_answerable(each, item.functions) for each in expected)
            assert right.ok == answerable, (item.id, right)
            unanswerable += not answerable
            renamed = [{**call, "name": call["name"] + "_"} for call in calls] or [{"name": "f", "arguments": {}}]
            score = score_calls(renamed, expected, item.functions, strict=strict)
            assert score.why == (NAME if expected else NEEDLESS if expected is not None else ""), item.id
            assert score.hallucinated_name
    assert unanswerable < 0.02 * len(items)  # relevance, and a few faults of the data


def _answerable(expected: Any, functions: Sequence[Function]) -> bool:
    """Whether a call can be right: a few items expect an argument that is not declared, or accept no value of one."""
    ((name, accepted),) = expected.items()
    declared = next(function.properties for function in functions if function.name == name)
    return all(options and ("" in options or key in declared) for key, options in accepted.items())


def _first(expected: Any, functions: Sequence[Function]) -> dict[str, Any]:
    """A call with an accepted value of every argument that must be given."""
    ((name, accepted),) = json.loads(json.dumps(expected)).items()
    required = next(function.required for function in functions if function.name == name)
    given = {key: options for key, options in accepted.items() if "" not in options or key in required}
    return {"name": name, "arguments": {key: _value(options) for key, options in given.items()}}


def _value(options: list[Any]) -> Any:
    value = next((each for each in options if each != ""), "")
    return [_object(each) for each in value] if isinstance(value, list) else _object(value)


def _object(value: Any) -> Any:
    if isinstance(value, dict) and value and all(isinstance(options, list) and options for options in value.values()):
        return {key: _value(options) for key, options in value.items() if "" not in options}
    return value


OBJECT = Function(
    "g",
    "",
    {
        "type": "object",
        "properties": {
            "o": {
                "type": "object",
                "properties": {
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "inner": {"type": "object", "properties": {"x": {"type": "array", "items": {"type": "integer"}}}},
                    "note": {"type": "string"},
                },
            },
            "text": {"type": "string"},
        },
        "required": ["o"],
    },
)


@pytest.mark.parametrize(
    "arguments",
    [
        {"o": {"tags": ["a", "b"]}},
        {"o": {"tags": [], "inner": {"x": [1, 2]}}},
        {"o": {"note": ""}, "text": ""},
        {"o": {"inner": {}}},
    ],
)
def test_objects_are_accepted_as_they_are(arguments: dict[str, Any]) -> None:
    call = Call("g", arguments)
    accepted = accepted_form(call, OBJECT)
    assert calls_of([json.loads(json.dumps(accepted))]) == [call]
    assert score_calls([call], [accepted], [OBJECT]).ok


def test_a_list_in_an_object_is_no_choice() -> None:
    for accepted in (
        accepted_form(Call("g", {"o": {"tags": ["a", "b"]}}), OBJECT),
        {"g": {"o": [{"tags": ["a", "b"]}]}},
    ):
        assert score_calls([Call("g", {"o": {"tags": ["a", "b"]}})], [accepted], [OBJECT]).ok
        for wrong in ("a", ["a"], ["b", "a"]):
            assert not score_calls([Call("g", {"o": {"tags": wrong}})], [accepted], [OBJECT]).ok
    empty = accepted_form(Call("g", {"o": {}, "text": ""}), OBJECT)
    assert score_calls([Call("g", {"o": {}})], [empty], [OBJECT]).why == MISSING
