"""Filters of written requests. Here: calls are valid and run, the reply states the result, no function is too common.

`word_filters.py` has the filters on a request's words, `meaning_filters.py` those on its meaning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synth_dspy.core.knowledge import KEPT, Candidate, Verdict, rejected
from synth_dspy.core.protocols import Filter
from synth_dspy.core.resources import Resources
from synth_dspy.domains.functions.meaning_filters import LeadsToFunction
from synth_dspy.domains.functions.sandbox.run import Outcome
from synth_dspy.domains.functions.schema import Call, Function, validate
from synth_dspy.domains.functions.syntax import parse
from synth_dspy.domains.functions.units import RequestUnit
from synth_dspy.domains.functions.values import is_stated, leaves, spellings
from synth_dspy.domains.functions.word_filters import CAPITAL, NothingElse, Roles, StatesValues, WellFormedRequest
from synth_dspy.synthesis.text import tokens


def function_checks(resources: Resources, registry: Mapping[str, Function]) -> list[Filter]:
    """The filters that call no language model; the writer chooses among its samples by them."""
    return [
        Schema(registry),
        WellFormedRequest(),
        StatesValues(),
        NothingElse(registry),
        Roles(),
        LeadsToFunction(resources.embedder.embed, registry),
    ]


class Schema:
    """The calls fit the schemas of the functions offered."""

    name = "schema"

    def __init__(self, registry: Mapping[str, Function]) -> None:
        self.registry = registry

    def __call__(self, candidate: Candidate) -> Verdict:
        offered = [self.registry[name] for name in candidate.fields["available"]]
        for call in parse(str(candidate.fields["answer"]), "json"):
            if problems := validate(call, offered):
                return rejected(f"not valid: {problems[0]}")
        return KEPT


class Executes:
    """Every call returns the recorded result when it is executed again in the sandbox.

    Functions that change something are not run; for them only the schema counts.

    Args:
        run: calls in the sandbox.
        registry: functions by name.
    """

    name = "execution"

    def __init__(self, run: Callable[[Sequence[Call]], Sequence[Outcome]], registry: Mapping[str, Function]) -> None:
        self.run = run
        self.registry = registry

    def __call__(self, candidate: Candidate) -> Verdict:
        calls = parse(str(candidate.fields["answer"]), "json")
        if any(not is_executable(call, self.registry) for call in calls):
            return Verdict(True, 0.5, "")
        recorded = candidate.fields.get("results") or []
        for outcome, before in zip(self.run(calls), recorded, strict=True):
            if not outcome.ok:
                return rejected(f"{outcome.error_type or 'stopped'}: {outcome.error or outcome.stopped}")
            if outcome.as_json() != before:
                return rejected("another result when called again")
        return KEPT


class Reply:
    """The answer in words states the result, if it fits in a few words, and contains no invented name."""

    name = "answer in words"

    def __call__(self, candidate: Candidate[RequestUnit]) -> Verdict:
        reply = candidate.fields.get("reply")
        if reply is None:
            return KEPT
        missing = [
            value for value in results_of(candidate.fields.get("results") or []) if not states_result(value, reply)
        ]
        if missing:
            return rejected(f"does not state the result: {missing[0]}")
        sources = self._sources(candidate)
        invented = [name for name in CAPITAL.findall(reply) if not set(tokens(name)) <= sources]
        return rejected(f"an invented name: {invented[0]}") if invented else KEPT

    @staticmethod
    def _sources(candidate: Candidate[RequestUnit]) -> set[str]:
        """The words of the conversation, the calls and the results."""
        fields = candidate.fields
        names = ("functions", "request", "question", "conversation", "answer", "results")
        called = [value for call in candidate.unit.about for _, value in leaves(call.arguments)]
        values = [*called, *results_of(fields.get("results") or [])]
        texts = [str(fields.get(name) or "") for name in names] + [way for value in values for way in spellings(value)]
        return {token for text in texts for token in tokens(text)} | {"i"}


class Balanced:
    """No function has more than twice its share of a category's accepted rows. Depends on the order.

    Args:
        least: rows of one function in one category that are always allowed.
    """

    name = "balance"
    ordered = True

    def __init__(self, least: int = 3) -> None:
        self.least = self.most = least
        self._count: Counter[str] = Counter()

    def prepare(self, candidates: Sequence[Candidate[RequestUnit]]) -> None:
        """Set the limit: twice the mean number of rows of a function in a category."""
        kinds = len({self._key(candidate) for candidate in candidates})
        self.most = max(self.least, math.ceil(2 * len(candidates) / max(1, kinds)))
        self._count.clear()

    @staticmethod
    def _key(candidate: Candidate[RequestUnit]) -> str:
        return f"{candidate.unit.about[0].name}, {candidate.category}"

    def __call__(self, candidate: Candidate[RequestUnit]) -> Verdict:
        key = self._key(candidate)
        if self._count[key] >= self.most:
            return rejected(f"enough of these: {key}")
        self._count[key] += 1
        return KEPT


def is_executable(call: Call, registry: Mapping[str, Function]) -> bool:
    """Whether a call and all calls nested in it can be executed without changing anything."""
    return all(registry[each.name].read_only and registry[each.name].target for each in (call, *call.inner()))


def results_of(outcomes: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The results that a reply in words must state: numbers and short texts, also those in an object."""
    results: list[Any] = []
    for outcome in outcomes:
        result = outcome.get("result")
        parts = result.values() if isinstance(result, Mapping) else [result]
        results += [
            part for part in parts if isinstance(part, int | float) or (isinstance(part, str) and len(part) < 60)
        ]
    return results[:4]


def states_result(value: Any, reply: str) -> bool:
    """Whether a reply states a result, rounded or not."""
    if isinstance(value, bool):
        return True
    if isinstance(value, float):
        return any(is_stated(rounded, reply) for rounded in (value, round(value, 2), round(value, 1), round(value)))
    return is_stated(value, reply)
