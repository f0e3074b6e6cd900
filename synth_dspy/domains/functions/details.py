"""Puts functions and calls into words for the teacher, and turns labelled examples into demonstrations of requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from synth_dspy.domains.functions.examples import calls_of
from synth_dspy.domains.functions.prompts import first_sentence
from synth_dspy.domains.functions.schema import Call, Function
from synth_dspy.domains.functions.values import as_stated, leaves, spellings

AND = " And: "
PLAIN = ("single", "choice")
OWN = ("parallel", "nested", "multi_turn", "missing_argument")
"""Categories whose requests are worded in a way of their own."""
THAT = "that"
"""How a request refers to the result of the previous one."""

Spell = Callable[[Any], str]
Must = tuple[str, Any, str]
"""A value that a request must state: the argument's name, the value, the argument's description."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A labelled example as a demonstration."""

    category: str
    names: frozenset[str]
    wanted: str
    request: str


class Details:
    """Puts calls into words.

    Args:
        registry: functions by name.
        seeds: labelled examples to take demonstrations from.
        count: demonstrations for each request.
        seed: seed for choosing them.
    """

    def __init__(self, registry: Mapping[str, Function], seeds: Sequence[dspy.Example], count: int, seed: int) -> None:
        self.registry = registry
        self.count = count
        self.seed = seed
        self.shots = [shot for example in seeds if (shot := self._as_shot(example))]

    def wanted(self, calls: Sequence[Call], rng: random.Random) -> str:
        """What the teacher is to request: each call with its details, each value in one of its spellings."""
        return AND.join(self._in_words(call, lambda value: spelt(value, rng)) for call in calls)

    def must(self, calls: Sequence[Call]) -> list[Must]:
        """The values that a request for these calls must state."""
        return [(name, value, self.note(call, name)) for call in calls for name, value in leaves(call.arguments)]

    def note(self, call: Call, name: str) -> str:
        """The description of an argument, also if it belongs to a nested call."""
        schemas = [self.registry[each.name].properties.get(name, {}) for each in (call, *call.inner())]
        return next((str(schema["description"]) for schema in schemas if "description" in schema), "")

    def shots_for(self, category: str, names: Sequence[str]) -> list[dspy.Example]:
        """Demonstrations of the category; those that call the same functions come last, next to the request."""
        pool = [shot for shot in self.shots if shot.category == category]
        if category not in OWN or not pool:
            pool = [shot for shot in self.shots if shot.category in PLAIN]
        random.Random(f"{self.seed} {category} {names[0]}").shuffle(pool)
        pool.sort(key=lambda shot: bool(shot.names & set(names)))
        return [dspy.Example(wanted=shot.wanted, request=shot.request) for shot in pool[-self.count :]]

    def instead(self, name: str, value: Any, spell: Spell) -> str:
        """The wording of a follow-up that changes one value."""
        return f"{_words(name)}: {self._detail(value, spell)} instead"

    def _in_words(self, call: Call, spell: Spell) -> str:
        """A call as the teacher reads it: what the function does, and its details."""
        function = self.registry[call.name]
        parts = [f"{_words(name)}: {self._detail(value, spell)}" for name, value in call.arguments.items()]
        return first_sentence(function.description) + (f" ({'; '.join(parts)})" if parts else "")

    def _detail(self, value: Any, spell: Spell) -> str:
        if isinstance(value, Call):
            return f"the result of: {self._in_words(value, spell)}"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, list):
            return " and ".join(self._detail(each, spell) for each in value)
        if isinstance(value, Mapping):
            return ", ".join(f"{_words(name)} {self._detail(each, spell)}" for name, each in value.items())
        return spell(value)

    def _as_shot(self, example: dspy.Example) -> Shot | None:
        """A labelled example with its details in the spelling that its request uses."""
        calls = calls_of(example.expected["calls"])
        if example.get("said"):
            calls = [Call.from_json(example.said)]
        if not calls or any(each.name not in self.registry for call in calls for each in (call, *call.inner())):
            return None

        def spell(value: Any) -> str:
            return as_stated(value, example.question)

        wanted = AND.join(self._in_words(call, spell) for call in calls)
        if example.get("conversation"):
            changed = list(_changes(example.conversation, calls[0]))
            if len(changed) != 1:
                return None
            wanted = self.instead(changed[0], calls[0].arguments[changed[0]], spell)
        return Shot(example.category, frozenset(call.name for call in calls), wanted, example.question)


def what_it_does(function: Function) -> str:
    """A function as a sentence, to compare with a request."""
    return f"{function.name.replace('_', ' ').replace('.', ' ')}: {first_sentence(function.description)}"


def spelt(value: Any, rng: random.Random) -> str:
    """A value in one of its spellings."""
    if isinstance(value, list):
        return " and ".join(spelt(each, rng) for each in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{_words(name)} {spelt(each, rng)}" for name, each in value.items())
    return rng.choice(spellings(value))


def _changes(conversation: Sequence[Mapping[str, Any]], call: Call) -> Iterator[str]:
    """The arguments in which a call differs from the previous one; all of them if it is the first."""
    before = [Call.from_json(each) for turn in conversation for each in turn.get("calls") or ()]
    given = before[-1].arguments if before else {}
    return (name for name, value in call.arguments.items() if given.get(name) != value)


def _words(name: str) -> str:
    return name.replace("_", " ")
