"""Whole cycles with real models: something is planted, people ask and rate, the loop runs, before and after compared.

What answers, notices and trains is given from outside: the service's way to answer, the loop's signals and steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth_dspy.core.errors import SetupError
from synth_dspy.evaluation.stats import PairedComparison, compare
from synth_dspy.loop.cycle import Cycles
from synth_dspy.loop.records import Request
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.rehearsal.users import Users


@dataclass(frozen=True, slots=True)
class Question:
    """A labelled question: the task's inputs and the right answer as things stand."""

    inputs: Mapping[str, Any]
    reference: str


@dataclass(frozen=True, slots=True)
class Plant:
    """What happens before a cycle.

    Attributes:
        name: for the report.
        happen: does it: amends documents, or promotes a bad version.
        questions: that people ask afterwards, with the answers that are right then.
        held_out: those that versions are scored on before and after, apart from `questions`.
    """

    name: str
    happen: Callable[[], None]
    questions: Sequence[Question]
    held_out: Sequence[Question]


@dataclass(frozen=True, slots=True)
class Round:
    """What a cycle came to.

    Attributes:
        noticed: the reason that the loop opened it for; "" where it noticed nothing.
        states: that it went through.
        before, after: ids of the champions.
        gain: after minus before on the held-out questions.
    """

    name: str
    noticed: str
    states: tuple[str, ...]
    before: str
    after: str
    gain: PairedComparison
    seconds: float


@dataclass(frozen=True, slots=True)
class Production:
    """A task in production as a rehearsal drives it.

    Attributes:
        cycles, registry: of its store.
        answer: answers a question as the service does, by the champion, and keeps the request.
        is_right: whether an answer is right, by the task's metric.
        notice: reads the signals; the reason to open a cycle, or None.
        score: a version's scores on questions, in [0, 1].
    """

    cycles: Cycles
    registry: Registry
    answer: Callable[[Question], Request]
    is_right: Callable[[Question, str], bool]
    notice: Callable[[], str | None]
    score: Callable[[str, Sequence[Question]], Sequence[float]]


def rehearse_cycles(
    production: Production,
    plants: Sequence[Plant],
    *,
    users: Users | None = None,
    groups: Callable[[Question], Hashable] | None = None,
    seconds: float = 2_400.0,
    seed: int = 0,
) -> list[Round]:
    """Plant one thing after another and let the loop handle each.

    Args:
        production: the task.
        plants: what happens, in order.
        users: who rate the answers.
        groups: of the held-out questions, for the intervals.
        seconds: for all of them together.
        seed: of the users.

    Raises:
        SetupError: the time is over; names the plant and the state.
    """
    draws, users, deadline = np.random.default_rng(seed), users or Users(), time.monotonic() + seconds
    return [_round(production, plant, users, groups, draws, deadline) for plant in plants]


def _round(
    production: Production,
    plant: Plant,
    users: Users,
    groups: Callable[[Question], Hashable] | None,
    draws: np.random.Generator,
    deadline: float,
) -> Round:
    started = time.monotonic()
    cycles, registry = production.cycles, production.registry
    plant.happen()
    before = registry.version("champion").id
    _ask(production, plant.questions, users, draws)
    reason = production.notice()
    cycle = cycles.open("loop", reason) if reason else cycles.current()
    while cycle is not None and cycle.state != "closed":
        if time.monotonic() > deadline:
            raise SetupError(f"The rehearsal's time was over at {plant.name!r}, with {cycle.id} in {cycle.state!r}.")
        after = cycles.advance(cycle)
        if after is None:  # more traffic is waited for
            _ask(production, plant.questions, users, draws)
        cycle = after or cycle
    champion = registry.version("champion").id
    scores = [production.score(version, plant.held_out) for version in (champion, before)]
    labels = None if groups is None else [groups(question) for question in plant.held_out]
    states = tuple(each.after for each in cycle.transitions) if cycle is not None else ()
    gain = compare(scores[0], scores[1], labels)
    return Round(plant.name, reason or "", states, before, champion, gain, time.monotonic() - started)


def _ask(production: Production, questions: Sequence[Question], users: Users, draws: np.random.Generator) -> None:
    requests = [production.answer(question) for question in questions]
    right = [production.is_right(q, request.answer) for q, request in zip(questions, requests, strict=True)]
    feedback = users.rate(requests, right, [question.reference for question in questions], draws)
    production.registry.store.add_together(feedback)
