"""JSON schemas to grammars, and cut replies to JSON. What the model makes of a grammar is in test_engine.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from synth_dspy.lms.grammar import UnsupportedSchemaError, close_json, from_response_format


def _ebnf(schema: dict[str, Any], max_tokens: int = 256) -> str:
    return from_response_format({"type": "json_schema", "schema": schema}, max_tokens).ebnf


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def test_every_rule_that_is_used_is_defined_once() -> None:
    schema = _object(
        answer={"type": "string", "maxLength": 400},
        score={"type": "number"},
        tags={"type": "array", "items": {"enum": ["a", 'b"c', None, 3]}},
        nested={"$ref": "#/$defs/Node"},
        extra={"type": "object", "additionalProperties": {"type": "integer"}},
        anything={},
    )
    schema["$defs"] = {"Node": _object(next={"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]})}
    lines = [line.split(" ::= ", 1) for line in _ebnf(schema).splitlines()]
    names = [name for name, _ in lines]
    assert len(names) == len(set(names))
    assert all(body for _, body in lines)


def test_strings_that_others_wait_for_are_bounded_by_the_budget() -> None:
    schema = _object(reasoning={"type": "string"}, answer={"type": "string"})
    for_128 = from_response_format({"type": "json_schema", "schema": schema}, 128).word_limits["reasoning"]
    for_200 = from_response_format({"type": "json_schema", "schema": schema}, 200).word_limits["reasoning"]
    assert 8 <= for_128 < for_200 < 200 / 1.3
    generous = from_response_format({"type": "json_schema", "schema": schema}, 4000)
    assert not generous.word_limits  # room enough: no bound of ours
    own = _object(reasoning={"type": "string", "maxLength": 10}, answer={"type": "string"})
    assert not from_response_format({"type": "json_schema", "schema": own}, 128).word_limits


@pytest.mark.parametrize("schema", [{"type": "tuple"}, {"$ref": "#/$defs/Gone"}, _object(x=False)])
def test_a_schema_without_a_grammar_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedSchemaError):
        _ebnf(schema)


@pytest.mark.parametrize(
    ("cut", "read"),
    [
        ('{"a": "one two', {"a": "one two"}),
        ('{"a": "one\\', {"a": "one"}),
        ('{"a": "x", "b', {"a": "x"}),
        ('{"a": "x", "b": ', {"a": "x"}),
        ('{"a": "x", "b": tr', {"a": "x"}),
        ('{"a": [1, {"b": 2}, {"c": "d, }', {"a": [1, {"b": 2}, {"c": "d, }"}]}),
        ("{", {}),
        ('{"a": 1}', {"a": 1}),
    ],
)
def test_a_cut_reply_is_closed_without_inventing_anything(cut: str, read: Any) -> None:
    closed = close_json(cut)
    assert closed is not None
    assert json.loads(closed) == read


def test_what_is_no_json_stays_none() -> None:
    assert close_json("hello") is None
