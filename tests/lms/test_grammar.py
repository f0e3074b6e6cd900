"""JSON schemas to grammars, and cut replies to JSON. What the model makes of a grammar is in test_engine.py."""

from __future__ import annotations

import ast
import itertools
import json
import random
import re
from typing import Any

import pytest

from synth_dspy.lms import ebnf
from synth_dspy.lms.cut_replies import close_json, close_json_calls, close_python_calls
from synth_dspy.lms.grammar import (
    UnsupportedSchemaError,
    from_response_format,
    grammar_format,
    python_calls_grammar,
)

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|[A-Za-z_]\w*|\{[\d,]+\}|[()|?*+]')


def _regex(text: str) -> re.Pattern[str]:
    """A grammar without recursion as a regular expression: what it accepts can be asked without a model."""
    rules = dict(line.split(" ::= ", 1) for line in text.splitlines())

    def written(rule: str) -> str:
        parts = []
        for token in _TOKEN.findall(rule):
            if token[0] == '"':
                parts.append(f"(?:{re.escape(ast.literal_eval(token))})")
            elif token[0].isalpha():
                parts.append(f"(?:{written(rules[token])})")
            else:
                parts.append("(?:" if token == "(" else token)
        return "".join(parts)

    return re.compile(written(rules["root"]))


def _accepts(schema: dict[str, Any], value: str, max_tokens: int = 256) -> bool:
    return _regex(_ebnf(schema, max_tokens)).fullmatch(value) is not None


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
    loose = _object(reasoning={"type": "string", "format": "email"}, answer={"type": "string"})
    assert from_response_format({"type": "json_schema", "schema": loose}, 128).word_limits["reasoning"] == for_128
    own = _object(reasoning={"type": "string", "maxLength": 10}, answer={"type": "string"})
    assert not from_response_format({"type": "json_schema", "schema": own}, 128).word_limits


@pytest.mark.parametrize("optional", [subset for n in range(4) for subset in itertools.combinations("abc", n)])
def test_optional_properties_may_be_left_out_each_by_itself(optional: tuple[str, ...]) -> None:
    accepted = _regex(_ebnf({**_object(**{name: {"type": "boolean"} for name in "abc"}), "x-optional": [*optional]}))
    for present in itertools.product((True, False), repeat=3):
        value = {name: True for name, there in zip("abc", present, strict=True) if there}
        allowed = set("abc") - set(value) <= set(optional)
        assert (accepted.fullmatch(json.dumps(value)) is not None) == allowed, value
    assert accepted.fullmatch('{, "b": true}') is None
    assert accepted.fullmatch('{"b": true, "a": true, "c": true}') is None


def test_an_optional_name_that_is_no_property_is_refused() -> None:
    with pytest.raises(UnsupportedSchemaError, match="c"):
        _ebnf({**_object(a={"type": "string"}), "x-optional": ["c"]})


def _call(name: str, optional: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    arguments = {**_object(**properties), "x-optional": list(optional), "additionalProperties": False}
    return _object(name={"const": name}, arguments=arguments)


CALLS = {
    "type": "array",
    "items": {
        "anyOf": [
            _call("geo.find", ("unit",), city={"type": "string"}, unit={"enum": ["km", "mi", None]}),
            _call("stop"),
            _call(
                "tag", ("day", "names"), names={"type": "array", "items": {"type": "string"}}, day={"type": "integer"}
            ),
        ]
    },
}


@pytest.mark.parametrize(
    ("calls", "python"),
    [
        ([], "[]"),
        ([("stop", {})], "[stop()]"),
        ([("geo.find", {"city": "Rome"})], '[geo.find(city="Rome")]'),
        ([("geo.find", {"city": 'R\n"', "unit": None})], r'[geo.find(city="R\n\"", unit=None)]'),
        ([("tag", {"day": 3}), ("tag", {"names": ["a", "b"]})], '[tag(day=3), tag(names=["a", "b"])]'),
        ([("tag", {})], "[tag()]"),
    ],
)
def test_a_list_of_calls_is_accepted_as_json_and_as_python(calls: list[Any], python: str) -> None:
    ast.parse(python)
    written = json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls])
    assert _accepts(CALLS, written)
    assert _regex(python_calls_grammar(CALLS)).fullmatch(python)


@pytest.mark.parametrize(
    ("calls", "python"),
    [
        ([("geo.lose", {"city": "Rome"})], '[geo.lose(city="Rome")]'),
        ([("geo.find", {})], "[geo.find()]"),
        ([("geo.find", {"city": 3})], "[geo.find(city=3)]"),
        ([("geo.find", {"city": "Rome", "unit": "ft"})], '[geo.find(city="Rome", unit="ft")]'),
        ([("stop", {"now": True})], "[stop(now=True)]"),
    ],
)
def test_no_other_call_is(calls: list[Any], python: str) -> None:
    assert not _accepts(CALLS, json.dumps([{"name": name, "arguments": arguments} for name, arguments in calls]))
    assert not _regex(python_calls_grammar(CALLS)).fullmatch(python)


def test_everything_in_a_list_of_calls_ends() -> None:
    def call(city: str) -> str:
        return json.dumps({"name": "geo.find", "arguments": {"city": city}})

    assert _accepts(CALLS, f"[{call('x' * 96)}]", max_tokens=96)
    assert not _accepts(CALLS, f"[{call('x' * 97)}]", max_tokens=96)
    assert _accepts(CALLS, f"[{', '.join([call('x')] * 6)}]", max_tokens=96)
    assert not _accepts(CALLS, f"[{', '.join([call('x')] * 7)}]", max_tokens=96)
    own = {"type": "array", "items": {"type": "string", "maxLength": 200}, "maxItems": 2}
    assert _accepts(own, json.dumps(["x" * 200] * 2), max_tokens=64)
    assert not _accepts(own, json.dumps(["x"] * 3), max_tokens=640)


def test_names_that_python_has_no_word_for_are_written_as_strings() -> None:
    schema = {"type": "array", "items": _call("get-it", ("user-id",), **{"user-id": {"type": "integer"}, "a": {}})}
    accepted = _regex(python_calls_grammar(schema))
    assert accepted.fullmatch('[functions["get-it"](a=None, **{"user-id": 1})]')
    assert accepted.fullmatch('[functions["get-it"](a=[1, "x"])]')
    assert not accepted.fullmatch("[get-it(a=None, user-id=1)]")


def test_a_call_in_a_call_is_one_in_python() -> None:
    schema: dict[str, Any] = {"type": "array", "items": {"anyOf": [_call("f", a=_object(**{"$call": _call("g")}))]}}
    assert _regex(python_calls_grammar(schema)).fullmatch("[f(a=g())]")
    assert _accepts(schema, '[{"name": "f", "arguments": {"a": {"$call": {"name": "g", "arguments": {}}}}}]')


def test_a_schema_that_is_no_list_of_calls_has_no_python() -> None:
    with pytest.raises(UnsupportedSchemaError):
        python_calls_grammar({"type": "array", "items": {"type": "string"}})
    assert python_calls_grammar({"type": "array", "maxItems": 0}) == 'root ::= "[]"\n'


def test_a_call_token_begins_a_list_that_is_not_empty() -> None:
    marked = {**CALLS, "x-call-token": "<tool_call>"}
    calls = '[{"name": "stop", "arguments": {}}]'
    python = _regex(python_calls_grammar(marked))
    for text, good in ((f"<tool_call>{calls}", True), ("[]", True), (calls, False), ("<tool_call>[]", False)):
        assert _accepts(marked, text) is good
        assert bool(python.fullmatch(text.replace(calls, "[stop()]"))) is good
    assert not _accepts({**marked, "minItems": 1}, "[]")
    assert _ebnf({"type": "array", "maxItems": 0, "x-call-token": "<tool_call>"}).endswith('\nroot ::= "[]"\n')
    json_close = from_response_format({"type": "json_schema", "schema": marked}, 64).close
    assert json_close(f"<tool_call>{calls[:-2]}") == f"<tool_call>{calls}"
    assert json_close("<tool_call>[") == "<tool_call>[]"
    assert json_close("<tool_") is None
    sent = grammar_format(python_calls_grammar(marked), "<tool_call>")["json_schema"]
    grammar = from_response_format({"type": "json_schema", "schema": sent["schema"]}, 64)
    assert grammar.close("<tool_call>[tag(day=3") == "<tool_call>[tag(day=3)]"


def test_a_grammar_travels_in_a_schema() -> None:
    sent = grammar_format('root ::= "x"\n')["json_schema"]
    grammar = from_response_format({"type": "json_schema", "schema": sent["schema"]}, 64)
    assert grammar.ebnf == 'root ::= "x"\n'
    assert grammar.close("[f(a=1") == "[f(a=1)]"


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0, 9),
        (1, 250),
        (-5, 5),
        (7, 7),
        (95, 1203),
        (-120, -8),
        (100, 999),
        (10, 99),
        (0, 1000),
        (None, 40),
        (38, None),
    ],
)
def test_a_range_of_whole_numbers_is_kept_exactly(low: int | None, high: int | None) -> None:
    accepted = _regex(f"root ::= {ebnf.integers(low, high)}\n")
    for number in range(-1300, 1301):
        inside = (low is None or low <= number) and (high is None or number <= high)
        assert (accepted.fullmatch(str(number)) is not None) == inside, number
    for text in ("01", "-01", "00", "1.0", ""):
        assert accepted.fullmatch(text) is None


def test_large_ranges_of_whole_numbers_are_kept_exactly() -> None:
    chance = random.Random(0)
    for _ in range(100):
        low, high = sorted(chance.randrange(10 ** chance.randrange(1, 9)) for _ in range(2))
        accepted = _regex(f"root ::= {ebnf.integers(low, high)}\n")
        numbers = [low, high, low - 1, high + 1, *(chance.randrange(10 ** chance.randrange(1, 10)) for _ in range(50))]
        for number in numbers:
            assert (accepted.fullmatch(str(number)) is not None) == (low <= number <= high), (low, high, number)


@pytest.mark.parametrize(
    "bounds",
    [
        {"minimum": 1, "maximum": 9},
        {"exclusiveMinimum": 0, "exclusiveMaximum": 10},
        {"minimum": 0, "exclusiveMinimum": True, "maximum": 10, "exclusiveMaximum": True},
    ],
)
def test_bounds_are_read_as_json_schema_and_openapi_write_them(bounds: dict[str, Any]) -> None:
    schema = {"type": "integer", **bounds}
    assert [n for n in range(-20, 21) if _accepts(schema, str(n))] == list(range(1, 10))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-90, 90), (-1.5, 2.5), (10, None), (None, -3), (0.2, 30)])
def test_a_number_never_leaves_its_range(low: float | None, high: float | None) -> None:
    accepted = _regex(f"root ::= {ebnf.numbers(low, high)}\n")
    inside = 0
    for tenth in range(-1000, 1001):
        for text in (str(tenth / 10), str(tenth // 10)):
            if accepted.fullmatch(text):
                assert low is None or low <= float(text), text
                assert high is None or float(text) <= high, text
                inside += "." in text
    assert inside


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^[A-Z]{3}-\d+$", ["ABC-1", "XYZ-123456"], ["AB-1", "ABC-", "abc-1"]),
        (r"^(red|green)?$", ["", "red", "green"], ["blue"]),
        (r"^(|a|b)x$", ["x", "ax"], ["cx"]),
        (r"[^@\s]+@[\w.-]+\.(com|org)", ["a@b.com", "x+y@b-c.d.org"], ["a b@c.com", "a@b.net"]),
        (r"^\+?[1-9]\d{1,14}$", ["+4930123", "12"], ["0123", "+"]),
        (r"^.{2,4}$", ["ab", 'ab"d'], ["a", "abcde"]),
        (r"^[!-~]+$", ['a"b\\c'], ["a b"]),
        (r"^a{2}b*?$", ["aa", "aabb"], ["ab"]),
    ],
)
def test_a_pattern_is_kept(pattern: str, good: list[str], bad: list[str]) -> None:
    accepted = _regex(_ebnf({"type": "string", "pattern": pattern}))
    for text in good:
        # A dot or a negated class takes no quotation marks: a grammar narrower than the pattern.
        expected = not ("." in pattern and '"' in text)
        assert (accepted.fullmatch(json.dumps(text)) is not None) == expected, text
    for text in bad:
        assert accepted.fullmatch(json.dumps(text)) is None, text


@pytest.mark.parametrize("pattern", [r"^(?=a)b$", r"(a)\1", r"\bword\b", "(", r"^a$|^b$", r"\D", "[^a-]{2,3"])
def test_a_pattern_without_a_grammar_is_passed_over(pattern: str) -> None:
    assert _accepts({"type": "string", "pattern": pattern}, '"anything"')


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("date", ["2024-02-28", "1999-12-31"], ["2024-02-30", "2024-13-01", "24-01-01", "2024-04-31"]),
        ("time", ["08:30:00"], ["24:00:00", "8:30"]),
        ("date-time", ["2024-02-28T08:30:00", "2024-02-28T08:30:00Z"], ["2024-02-28 08:30:00"]),
    ],
)
def test_dates_and_times_have_their_shape(form: str, good: list[str], bad: list[str]) -> None:
    for text in (*good, *bad):
        assert _accepts({"type": "string", "format": form}, json.dumps(text)) == (text in good), text


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


@pytest.mark.parametrize(
    ("cut", "read"),
    [
        ('[f(a=1, b="one tw', '[f(a=1, b="one tw")]'),
        ("[f(a=1, b=", "[f(a=1)]"),
        ("[f(a=1, b=Tr", "[f(a=1)]"),
        ("[f(a=[1, 2], b={", "[f(a=[1, 2], b={})]"),
        ("[f(a=g(x=1", "[f(a=g(x=1))]"),
        ("[f(a=1), geo.fin", "[f(a=1)]"),
        ('[f(**{"x-y": 1', '[f(**{"x-y": 1})]'),
        ("[", "[]"),
    ],
)
def test_cut_calls_are_closed_without_inventing_anything(cut: str, read: str) -> None:
    assert close_python_calls(cut) == read


@pytest.mark.parametrize(
    ("cut", "read"),
    [
        ('[{"name": "f", "arguments": {"a": "x', [{"name": "f", "arguments": {"a": "x"}}]),
        ('[{"name": "f", "argum', []),
        ('[{"name": "f", "arguments": {}}, {"name": "g', [{"name": "f", "arguments": {}}]),
        (
            '[{"name": "f", "arguments": {"a": 1, "b": {"$call": {"name": "h',
            [{"name": "f", "arguments": {"a": 1, "b": {}}}],
        ),
    ],
)
def test_a_call_cut_in_its_name_is_left_out(cut: str, read: Any) -> None:
    closed = close_json_calls(cut)
    assert closed is not None
    assert json.loads(closed) == read
    format_ = {"type": "json_schema", "schema": CALLS}
    assert from_response_format(format_, 64).close(cut) == closed


def test_what_is_no_list_of_calls_stays_none() -> None:
    assert close_python_calls("hello") is None
    assert close_python_calls("[1, 2") == "[]"


@pytest.mark.parametrize(
    "pattern", [r"^([a-z]{1,1000}){1,1000}$", r"^(((a|b){1,99}){1,99}){1,99}$", r"^((a+)+)+$", r"^(((((a|b)*)*)*)*)*$"]
)
def test_a_pattern_that_takes_for_ever_to_compile_is_passed_over(pattern: str) -> None:
    assert _ebnf(_object(x={"type": "string", "pattern": pattern})) == _ebnf(_object(x={"type": "string"}))


def test_a_schema_s_patterns_are_kept_as_far_as_they_compile_in_time() -> None:
    slug = r"^[a-z0-9]+(-[a-z0-9]+)*$"
    schema = _object(**{f"x{number}": {"type": "string", "pattern": slug} for number in range(50)})
    assert _accepts(schema, json.dumps({f"x{number}": "a-b2-c" for number in range(50)}))
    assert not _accepts(schema, json.dumps({f"x{number}": "A B" for number in range(50)}))
    many = _object(**{f"x{n}": {"type": "string", "pattern": f"^(a{{{n + 1}}}-)+$"} for n in range(200)})
    assert ebnf.nested_size(_ebnf(many)) < 10_000


def test_a_class_of_all_characters_is_written_in_no_time() -> None:
    pattern = "^" + "[ -\U0010ffff]" * 200 + "$"
    assert _accepts(_object(x={"type": "string", "pattern": pattern}), json.dumps({"x": "a" * 200}))
