"""Compares calls with the expected ones, as syntax trees under BFCL's rules.

Patil et al., "The Berkeley Function Calling Leaderboard (BFCL)", ICML 2025; the rules are those of its `ast_checker`,
written anew. Expected calls are in its format: `{name: {argument: [accepted values]}}`, "" among the values means that
the argument may be left out; in an object, each key has a list of accepted values of its own.

- Every argument must be declared and expected, and of the declared type or of the accepted values' type (which
  are strings if a variable stands for a value). An integer is accepted as a number; true is not an integer.
- Strings are compared without case, blanks and `,./-_*^`, and with one kind of quotation mark.
- Calls may come in any order.

It goes further than BFCL's checker, which stops at one level: types, integers as numbers, and strings are treated
alike at every depth; calls are matched in the best way, not the first; nested calls are compared as
calls; and an argument of any type may be any accepted value. `tests/benchmarks/bfcl_agreement.py` compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_dspy.domains.functions.bfcl import OMITTED, accepted_values, may_be_left_out
from synth_dspy.domains.functions.json_schema import json_types
from synth_dspy.domains.functions.schema import Call, Function

NAME, MISSING, UNKNOWN = "wrong name", "missing argument", "unknown argument"
TYPE, VALUE, NUMBER, NEEDLESS = "wrong type", "wrong value", "wrong number of calls", "called needlessly"
CAUSES = (NAME, MISSING, UNKNOWN, TYPE, VALUE, NUMBER, NEEDLESS)
"""Causes of wrong calls, from the worst error in a call to the smallest, then errors of all calls together."""

_NESTED = "$call"
_IGNORED = re.compile(r"[ ,./\-_*^]")
Expected = Mapping[str, Mapping[str, Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class CallScore:
    """The verdict on the calls of one turn.

    Attributes:
        ok: whether they are right.
        why: one of `CAUSES`, or "" if they are right.
        detail: which call or argument, in words.
        hallucinated_name: a function is called that was not offered.
        hallucinated_argument: an argument is given that its function does not have.
    """

    ok: bool
    why: str = ""
    detail: str = ""
    hallucinated_name: bool = False
    hallucinated_argument: bool = False


def score_calls(
    calls: Sequence[Call | Mapping[str, Any]],
    ground_truth: Sequence[Expected] | None,
    functions: Sequence[Function],
    *,
    strict: bool = False,
) -> CallScore:
    """Score the calls of one turn.

    Args:
        calls: The calls made, also as JSON (`{"name": ..., "arguments": {...}}`).
        ground_truth: The expected calls; empty if nothing should be called; None if any call is right.
        functions: The functions offered.
        strict: Calls must be in the expected order, and strings equal: for conversations, where one
            call changes the state for the next.
    """
    made = [call if isinstance(call, Call) else Call.from_json(call) for call in calls]
    registry = {function.name: function for function in functions}
    every = [each for call in made for each in (call, *call.inner())]
    why, detail = _Rules(registry, strict).verdict(made, ground_truth)
    return CallScore(
        not why,
        why,
        detail,
        any(call.name not in registry for call in every),
        any(call.name in registry and bool(_undeclared(call, registry[call.name])) for call in every),
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """Compares calls and values for given functions, strictly or not."""

    registry: Mapping[str, Function]
    strict: bool

    def verdict(self, calls: Sequence[Call], expected: Sequence[Expected] | None) -> tuple[str, str]:
        """Why calls are wrong, and where; two empty strings if they are right."""
        if expected is None:
            return ("", "") if calls else (NUMBER, "nothing was called")
        if calls and not expected:
            return NEEDLESS, f"{calls[0].name} was called"
        if len(calls) != len(expected):
            return NUMBER, f"{len(calls)} instead of {len(expected)}"
        # The problem of each call if it is matched with each expected one.
        wrong = [[self.wrong(call, each) for call in calls] for each in expected]
        if self.strict:
            return next((problem for i, row in enumerate(wrong) if (problem := row[i])), ("", ""))
        partners = _partners(wrong)
        free = [j for j in range(len(calls)) if j not in partners]
        problems = [problem for i, j in enumerate(partners) if j is None for k in free if (problem := wrong[i][k])]
        # Of the unmatched calls, the one nearest to an expected call gives the cause.
        return max(problems, key=lambda each: CAUSES.index(each[0]), default=("", ""))

    def wrong(self, call: Call, expected: Expected) -> tuple[str, str] | None:
        """The first problem of a call that is matched with an expected one."""
        ((name, accepted),) = expected.items()
        if call.name != name:
            return NAME, f"{call.name} instead of {name}"
        function = self.registry.get(name) or Function(name, "", {})
        for key in function.required:
            if key not in call.arguments:
                return MISSING, f"{key} of {name}"
        definitions = function.parameters.get("$defs") or {}
        undeclared = _undeclared(call, function)
        for key, value in call.arguments.items():
            if key in undeclared:
                return UNKNOWN, f"{key} of {name}"
            if key not in accepted:
                return UNKNOWN, f"{key} of {name} is not expected"
            cause = self._argument(value, accepted[key], _Schema(function.properties.get(key, {}), definitions))
            if cause:
                return cause, f"{key} of {name}"
        for key, values in accepted.items():
            if key not in call.arguments and not may_be_left_out(values):
                return MISSING, f"{key} of {name}"
        return None

    def _argument(self, value: Any, accepted: Sequence[Any], schema: _Schema) -> str:
        """The problem of an argument with these accepted values; "" if there is none."""
        if not _typed(value, accepted, schema):
            return TYPE
        # A variable's name in place of a value of another declared type is compared exactly.
        exact = not _passes(_kind_of(accepted), schema.types())
        given = [each for each in accepted if each != OMITTED] if self.strict else []
        return "" if any(self._equal(value, each, schema, exact=exact) for each in given or accepted) else VALUE

    def _equal(self, value: Any, accepted: Any, schema: _Schema, *, exact: bool = False) -> bool:
        """Whether a value is an accepted one, down to its leaves."""
        if isinstance(value, Call):
            return self._is_call(value, accepted)
        if isinstance(value, str) and isinstance(accepted, str):
            return value == accepted if exact or self.strict else _normal(value) == _normal(accepted)
        if isinstance(value, list):
            if accepted == OMITTED:
                return not value  # an empty list means the same as leaving it out
            return (
                isinstance(accepted, list)
                and len(value) == len(accepted)
                and all(self._equal(a, b, schema.inside(0)) for a, b in zip(value, accepted, strict=True))
            )
        if isinstance(value, Mapping):
            return (
                isinstance(accepted, Mapping)
                and all(k in accepted and self._fits(each, accepted[k], schema.inside(k)) for k, each in value.items())
                and all(k in value or may_be_left_out(_options(o, schema.inside(k))) for k, o in accepted.items())
            )
        return bool(value == accepted) and isinstance(value, bool) == isinstance(accepted, bool)

    def _fits(self, value: Any, options: Any, schema: _Schema) -> bool:
        """Whether a value inside an object is one of the accepted ones, or the accepted literal."""
        return any(self._equal(value, each, schema) for each in _options(options, schema))

    def _is_call(self, call: Call, accepted: Any) -> bool:
        """Whether a nested call is the expected one, which is given as JSON or with accepted values."""
        if not isinstance(accepted, Mapping) or set(accepted) != {_NESTED}:
            return False
        inner = accepted[_NESTED]
        if set(inner) == {"name", "arguments"}:
            inner = {inner["name"]: {key: accepted_values(value) for key, value in inner["arguments"].items()}}
        return self.wrong(call, inner) is None


def _partners(wrong: Sequence[Sequence[tuple[str, str] | None]]) -> list[int | None]:
    """For each expected call a right one, as many as possible (Kuhn's augmenting paths)."""
    expected_of: dict[int, int] = {}

    def augment(i: int, tried: set[int]) -> bool:
        for j, problem in enumerate(wrong[i]):
            if problem is None and j not in tried:
                tried.add(j)
                if j not in expected_of or augment(expected_of[j], tried):
                    expected_of[j] = i
                    return True
        return False

    for i in range(len(wrong)):
        augment(i, set())
    call_of = {i: j for j, i in expected_of.items()}
    return [call_of.get(i) for i in range(len(wrong))]


def _undeclared(call: Call, function: Function) -> list[str]:
    """Arguments that a function does not have. A function without declared arguments accepts any."""
    if "properties" not in function.parameters or function.parameters.get("additionalProperties"):
        return []
    return [key for key in call.arguments if key not in function.properties]


# -- types -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Schema:
    """A value's JSON Schema, and the definitions that its references name."""

    schema: Mapping[str, Any]
    definitions: Mapping[str, Any]

    def types(self) -> frozenset[str]:
        """JSON types; empty if any will do."""
        return json_types(self.schema, self.definitions)

    def inside(self, key: str | int) -> _Schema:
        """The schema of a property or, for an index, of the items, from the first alternative that declares it."""
        for schema in self._alternatives(self.schema):
            if isinstance(key, int):
                part = schema.get("items")
            else:
                part = (schema.get("properties") or {}).get(key, schema.get("additionalProperties"))
            if isinstance(part, Mapping):
                return _Schema(part, self.definitions)
        return _Schema({}, self.definitions)

    def _alternatives(self, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if "$ref" in schema:
            schema = self.definitions.get(str(schema["$ref"]).rsplit("/", 1)[-1], {})
        yield schema
        for each in schema.get("anyOf", ()):
            yield from self._alternatives(each)


def _typed(value: Any, accepted: Sequence[Any], schema: _Schema) -> bool:
    """Whether a value has a declared type, or the type of the first accepted value, down to its leaves."""
    if isinstance(value, Call):
        return True
    if not _passes(_kind(value), schema.types()) and _kind(value) != _kind_of(accepted):
        return False
    if isinstance(value, list):
        examples = [each for each in accepted if isinstance(each, list)]
        return any(all(_typed(item, example, schema.inside(0)) for item in value) for example in examples or [[]])
    if isinstance(value, Mapping):
        options = [each for each in accepted if isinstance(each, Mapping)]
        return any(
            all(
                _typed(each, _options(option[key], schema.inside(key)) if key in option else [], schema.inside(key))
                for key, each in value.items()
            )
            for option in options or [{}]
        )
    return True


def _options(options: Any, schema: _Schema) -> Sequence[Any]:
    """The values that are accepted inside an object: those listed, or the literal itself.

    If an array is declared, a list that contains no lists is that array.
    """
    if not isinstance(options, list):
        return [options]
    types = schema.types()
    if "array" not in types or any(isinstance(each, list) for each in options):
        return options
    if options and all(each == OMITTED for each in options):
        return [*options, options]
    return [*(each for each in options if each != OMITTED and _passes(_kind(each), types)), options]


def _passes(kind: str, types: frozenset[str]) -> bool:
    return not types or not kind or kind in types or (kind == "integer" and "number" in types)


def _kind_of(accepted: Sequence[Any]) -> str:
    """The type of the first accepted value; "" if there is none."""
    return next((_kind(each) for each in accepted if each != OMITTED), "")


def _kind(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", type(None): "null"}
    return names.get(type(value), "object")


def _normal(text: str) -> str:
    return _IGNORED.sub("", text).lower().replace("'", '"')
