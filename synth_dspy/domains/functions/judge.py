"""The judge and metrics of calls, compared as syntax trees under the Berkeley leaderboard's rules (`metrics.py`).

A row's `expected` has `calls`, the accepted values of every argument in BFCL's format (empty if nothing should be
called), and `functions`, the functions offered, by name or in full. A prediction's `answer` is its calls as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from synth_dspy.core.protocols import Metric
from synth_dspy.domains.functions.bfcl import may_be_left_out
from synth_dspy.domains.functions.examples import resolve
from synth_dspy.domains.functions.metrics import CallScore, score_calls
from synth_dspy.domains.functions.schema import Call, CallSyntaxError, Function, validate
from synth_dspy.domains.functions.syntax import parse
from synth_dspy.evaluation.scores import scores

FunctionsByName = Callable[[], Mapping[str, Function]]
"""Returns the functions by name. It is called late, as reading them is I/O."""


class CallJudge:
    """1.0 if the calls are right, 0.0 otherwise; it calls no model.

    Args:
        registry: the functions by name.
    """

    name = "ast"
    agreement: Mapping[str, Any] = {}

    def __init__(self, registry: FunctionsByName) -> None:
        self._registry = registry

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        return self._score(example.expected, str(prediction.get("answer") or ""))

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Scores of rows of `expected` and `prediction`."""
        return [self._score(row["expected"], str(row["prediction"])) for row in rows]

    def _score(self, expected: Mapping[str, Any], answer: str) -> float:
        return float(scored(expected, answer, self._registry()).ok)


def call_metrics(registry: FunctionsByName) -> dict[str, Metric]:
    """Metrics of the parts of a right answer, by name; NaN where one does not apply.

    right_function: the functions called are those expected; if any are.
    right_arguments: share of expected arguments with an accepted value, for rightly called functions.
    real_names: only functions offered are called; if something is called.
    real_arguments: only arguments that the function has are given; if something is called.
    valid: the calls fit the schemas; an empty list of calls is valid.
    abstention: something is called if and only if something should be.
    """

    def metric(part: Callable[[Mapping[str, Any], list[Call] | None, list[Function]], float]) -> Metric:
        def score(example: Any, prediction: Any, trace: Any = None) -> float:
            functions = resolve(example.expected["functions"], registry())
            return part(example.expected, _calls(str(prediction.get("answer") or "")), functions)

        return score

    parts = {
        "right_function": _right_function,
        "right_arguments": _right_arguments,
        "real_names": _real_names,
        "real_arguments": _real_arguments,
        "valid": _valid,
        "abstention": _abstention,
    }
    made = {name: metric(part) for name, part in parts.items()}
    scores("abstention")(made["abstention"])
    return made


def scored(expected: Mapping[str, Any], answer: str, registry: Mapping[str, Function]) -> CallScore:
    """The score of an answer, with the reason if it is wrong."""
    functions = resolve(expected["functions"], registry)
    calls = _calls(answer)
    if calls is None:
        return CallScore(ok=False, why="not a list of calls")
    return score_calls(calls, expected["calls"], functions)


def _calls(answer: str) -> list[Call] | None:
    try:
        return parse(answer, "json")
    except CallSyntaxError:
        return None


def _right_function(expected: Mapping[str, Any], calls: list[Call] | None, functions: list[Function]) -> float:
    if not expected["calls"]:
        return math.nan
    wanted = sorted(name for each in expected["calls"] for name in each)
    return float(calls is not None and sorted(call.name for call in calls) == wanted)


def _right_arguments(expected: Mapping[str, Any], calls: list[Call] | None, functions: list[Function]) -> float:
    """Compares each expected call with the best-fitting call of the same function."""
    if not expected["calls"]:
        return math.nan
    shares = []
    for each in expected["calls"]:
        ((name, accepted),) = each.items()
        needed = {key: values for key, values in accepted.items() if not may_be_left_out(values)}
        mine = [call for call in calls or () if call.name == name]
        if mine and needed:
            shares.append(max(_fitting(call, needed, functions) for call in mine) / len(needed))
    return sum(shares) / len(shares) if shares else math.nan


def _fitting(call: Call, needed: Mapping[str, Any], functions: Sequence[Function]) -> int:
    """How many arguments of a call have an accepted value; each is compared on its own."""
    fitting = 0
    for function in functions:
        for key in needed.keys() & call.arguments.keys() & function.properties.keys():
            if function.name == call.name:
                own = {**function.parameters, "properties": {key: function.properties[key]}, "required": [key]}
                alone = Call(call.name, {key: call.arguments[key]})
                wanted = [{call.name: {key: needed[key]}}]
                fitting += score_calls([alone], wanted, [replace(function, parameters=own)]).ok
    return fitting


def _real_names(expected: Mapping[str, Any], calls: list[Call] | None, functions: list[Function]) -> float:
    return float(not score_calls(calls, None, functions).hallucinated_name) if calls else math.nan


def _real_arguments(expected: Mapping[str, Any], calls: list[Call] | None, functions: list[Function]) -> float:
    return float(not score_calls(calls, None, functions).hallucinated_argument) if calls else math.nan


def _valid(expected: Mapping[str, Any], calls: list[Call] | None, functions: list[Function]) -> float:
    return float(calls is not None and not any(validate(call, functions) for call in calls))


def _abstention(expected: Mapping[str, Any], calls: list[Call] | None, functions: list[Function]) -> float:
    return float(bool(expected["calls"]) == (calls is None or bool(calls)))
