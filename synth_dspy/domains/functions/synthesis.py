"""Writes requests that lead to calls: the calls are drawn first, then the teacher puts them into words.

A small teacher cannot invent a request and its arguments; it can put given arguments into a sentence, from examples of
real requests. So a unit of work is a call with drawn arguments, already executed in the sandbox, and the request is
written from it (as the answer-first route of contract QA writes questions from spans). Categories:

    single            one function is offered, and called
    choice            several are offered, one is called
    parallel          two calls, neither of which needs the other's result
    nested            one call's result is an argument of the other
    multi_turn        the last message is a follow-up, an answer to the assistant's question, or small talk
    missing_argument  a required argument is left out: no call, the assistant asks for it
    irrelevant        no function offered does what is requested: no call
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy

from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.core.protocols import Embed, Filter
from synth_dspy.core.resources import Resources
from synth_dspy.domains.functions.details import AND, THAT, Details
from synth_dspy.domains.functions.examples import INPUTS, example_fields
from synth_dspy.domains.functions.filters import Balanced, Executes, Reply, function_checks, is_executable
from synth_dspy.domains.functions.iteration import improve, in_words
from synth_dspy.domains.functions.meaning_filters import ReverseQueries
from synth_dspy.domains.functions.planner import UnitPlanner, parse_mix
from synth_dspy.domains.functions.program import Workshop
from synth_dspy.domains.functions.schema import Call, Function
from synth_dspy.domains.functions.source import Functions
from synth_dspy.domains.functions.syntax import Syntax
from synth_dspy.domains.functions.units import FirstTurns, RequestUnit
from synth_dspy.domains.functions.writer import SAMPLING, ReplyWriter, RequestWriter, ValueWriter
from synth_dspy.synthesis.decontaminate import Decontaminated
from synth_dspy.synthesis.dedup import NearDuplicate
from synth_dspy.synthesis.pipeline import candidate_id
from synth_dspy.synthesis.samples import draw, kept_by


class RequestSynthesizer(dspy.Module):
    """Writes candidates: `plan` draws and executes calls, `forward` has the teacher put one into words.

    Args:
        registry: the functions by name; calls are drawn only for those passed to `plan`.
        elsewhere: further functions, which only the seeds call.
        seeds: labelled examples of the training groups, or of functions in `elsewhere`.
        embed: texts to unit vectors.
        workshop: executes calls in sandboxes.
        mix: shares of the categories.
        checks: filters without model calls.
        syntax: the syntax of calls.
        count: demonstrations for each request.
        samples: most requests written for a unit; the first that passes the checks is taken.
        seed: seed of the draws.
    """

    def __init__(
        self,
        registry: Mapping[str, Function],
        elsewhere: Mapping[str, Function],
        seeds: Sequence[dspy.Example],
        embed: Embed,
        workshop: Workshop,
        *,
        mix: Mapping[str, int],
        checks: Sequence[Filter] = (),
        syntax: Syntax = "json",
        count: int = 3,
        samples: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.registry = dict(registry)
        self.workshop = workshop
        self.checks = list(checks)
        self.syntax = syntax
        self.samples = samples
        self.details = Details({**elsewhere, **registry}, seeds, count, seed)
        self.findings: list[str] = []
        self.writer = RequestWriter()
        self.replies = ReplyWriter()
        self.values = ValueWriter()
        self.planner = UnitPlanner(registry, seeds, embed, workshop, mix, self.details, self.values, seed)

    def plan(self, items: Sequence[Item], limit: int | None) -> list[RequestUnit]:
        """The units to write requests for."""
        return self.planner.plan(items, limit)

    def tune(self, items: Sequence[Item], filters: Sequence[Filter], executor: Executor) -> None:
        """Compile the writer on a small first batch, before the large one."""
        self.findings = in_words(improve(self, items, executor))

    def forward(self, unit: RequestUnit | Item) -> list[Candidate[RequestUnit]]:
        """The candidate of a unit from `plan`; for an item, those of its units."""
        if isinstance(unit, Item):
            return [candidate for own in self.plan([unit], None) for candidate in self.forward(own)]
        if unit.first_turns is not None:
            return self._conversation(unit, unit.first_turns)
        question = self._best(unit)
        if not question:
            return []
        trial = self.candidate(unit, question)
        reply = self.replies(question, unit.results) if self.passes(trial) else None
        return [self.candidate(unit, question, reply)]

    def ask(self, wanted: str, shots: Sequence[dspy.Example], **decoding: Any) -> str:
        """The teacher's request for the calls in words, `wanted`."""
        return str(self.writer(wanted=wanted, shots=shots, **decoding).request)

    def _best(self, unit: RequestUnit) -> str:
        """The most likely request if it passes the checks, else the first of a few samples that does.

        Two calls that the teacher cannot put into one request are requested one after the other.
        """
        first = ""
        for i in range(self.samples):
            question = self.ask(unit.wanted, unit.shots, **draw(i, SAMPLING))
            if self.passes(self.candidate(unit, question)):
                return question
            first = first or question
        parts = [self._best(part) for part in self._parts(unit)]
        together = " ".join(parts)
        return together if parts and self.passes(self.candidate(unit, together)) else first

    def _parts(self, unit: RequestUnit) -> list[RequestUnit]:
        """The calls of a unit as separate units: parallel ones, or an inner one and the outer one of "that"."""
        if unit.category == "parallel":
            wanted = unit.wanted.split(AND)
            return [self._alone(unit, call, words) for call, words in zip(unit.about, wanted, strict=True)]
        if unit.category != "nested":
            return []
        rng, outer = random.Random(unit.id), unit.about[0]
        inner = next(outer.inner())
        plain = {name: value for name, value in outer.arguments.items() if not isinstance(value, Call)}
        referring = {name: THAT if isinstance(value, Call) else value for name, value in outer.arguments.items()}
        rest = self._alone(unit, Call(outer.name, plain), self.details.wanted([Call(outer.name, referring)], rng))
        return [
            self._alone(unit, inner, self.details.wanted([inner], rng)),
            replace(rest, expected=()),  # without its argument the call is not valid
        ]

    def _conversation(self, unit: RequestUnit, first_turns: FirstTurns) -> list[Candidate[RequestUnit]]:
        """A conversation: the request for the first call, the assistant's turns, and the last message."""
        call = first_turns.first
        begun = self._alone(unit, call, self.details.wanted([call], random.Random(unit.id)))
        if first_turns.lacks is not None:  # the first message lacks what the assistant then asks for
            begun = replace(begun, expected=(), left_out=first_turns.lacks)
        request = self._best(begun)
        if not self.passes(self.candidate(begun, request)):
            return []
        turns: list[dict[str, Any]] = [{"role": "user", "content": request}]
        if first_turns.lacks is not None:
            turns.append({"role": "assistant", "content": first_turns.reply})
        else:
            turns.append({"role": "assistant", "calls": [call.as_json()]})
            if is_executable(call, self.registry):
                result = self.workshop.run([call])[0].as_json()
                turns.append({"role": "tool", "content": str(result["result"])})
                reply = self.replies(request, [result])
                turns += [{"role": "assistant", "content": reply}] if reply else []
        whole = replace(unit, conversation=tuple(turns))
        last = first_turns.last or self._best(whole)
        return [self.candidate(whole, last[0].upper() + last[1:])] if last else []

    def _alone(self, unit: RequestUnit, call: Call, wanted: str) -> RequestUnit:
        """A unit for one call of another unit, without the turns before it."""
        return replace(
            unit,
            category="single",
            about=[call],
            expected=[call],
            must=self.details.must([call]),
            wanted=wanted,
            shots=self.details.shots_for("single", [call.name]),
            first_turns=None,
            conversation=(),
        )

    def passes(self, candidate: Candidate[RequestUnit]) -> bool:
        """Whether a candidate passes the checks that call no model."""
        return kept_by(self.checks, candidate)

    def candidate(self, unit: RequestUnit, question: str, reply: str | None = None) -> Candidate[RequestUnit]:
        """The candidate of a unit and the teacher's request."""
        fields = example_fields(
            question,
            unit.expected,
            [self.registry[name] for name in unit.offered],
            self.syntax,
            conversation=unit.conversation,
            system=unit.system,
        )
        fields["results"] = unit.results
        if reply is not None:
            fields["reply"] = reply
        inputs = tuple(name for name in INPUTS if name in fields)
        return Candidate(candidate_id(unit, 0), unit, fields, unit.category, inputs)


# -- the task's factories ---------------------------------------------------------------------------------------------


def function_synthesizer(resources: Resources, source: Functions, mix: str = "") -> RequestSynthesizer:
    """The module that writes requests; its caller sets the teacher on it."""
    registry = source.own()
    return RequestSynthesizer(
        registry,
        source.registry(),
        resources.seeds,
        resources.embedder.embed,
        Workshop(registry.values()),
        mix=parse_mix(mix or "single=1"),
        checks=function_checks(resources, registry),
        syntax=source.syntax,
        seed=resources.seed,
    )


def function_filters(resources: Resources, source: Functions, *, quantile: float | None = None) -> list[Filter]:
    """The filters of candidates, the cheapest first."""
    embed, registry = resources.embedder.embed, source.own()
    teacher = function_synthesizer(resources, source)
    teacher.set_lm(resources.teacher)

    def again(candidate: Candidate[RequestUnit]) -> list[str]:
        unit = candidate.unit
        return [teacher.ask(unit.wanted, unit.shots, rollout_id=90 + i, **SAMPLING) for i in range(2)]

    return [
        *teacher.checks,
        Executes(lambda calls: teacher.workshop.run(calls, again=1), registry),
        Reply(),
        NearDuplicate(embed, resources.learned, cosine=0.95),  # requests that differ only in values are not duplicates
        Decontaminated(resources.held_out, embed),
        ReverseQueries(again, embed, 0.5, quantile, resources.executor),
        Balanced(),
    ]
