"""Plans the units to write requests for: calls are drawn, executed, and paired with what a request must state."""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Item
from synth_dspy.core.protocols import Embed
from synth_dspy.domains.functions.details import Details, Must, spelt, what_it_does
from synth_dspy.domains.functions.examples import calls_of
from synth_dspy.domains.functions.filters import is_executable
from synth_dspy.domains.functions.json_schema import json_types
from synth_dspy.domains.functions.program import Workshop
from synth_dspy.domains.functions.prompts import first_sentence
from synth_dspy.domains.functions.schema import Call, Function, validate
from synth_dspy.domains.functions.units import FirstTurns, FunctionItem, LeftOut, RequestUnit
from synth_dspy.domains.functions.values import ValueDrawer, leaves
from synth_dspy.domains.functions.wording import CLARIFY, SYSTEM_PROMPTS, TALK

log = logging.getLogger("synth_dspy.synthesis")

CATEGORIES = ("single", "choice", "parallel", "nested", "missing_argument", "irrelevant", "multi_turn")
EARLIER = {"missing": "missing_argument"}
"""Names of categories in configurations of earlier runs."""
OFFERED = 3
"""Functions to choose from, in categories with a choice."""
FITS = 0.55
"""Least cosine similarity of a function's result and an argument for the one to be fed into the other."""
WITH_SYSTEM = 0.2
"""Share of the units with a system prompt."""
TRIES = 5
CONSIDERED = 40
"""How many functions are considered when unrelated ones are looked for."""


def parse_mix(mix: str) -> dict[str, int]:
    """The shares of the categories: "single=4,choice=2" gives {"single": 4, "choice": 2}.

    Raises:
        SetupError: a name is not a category, or a share is not a whole number.
    """
    shares: dict[str, int] = {}
    for part in mix.split(","):
        name, _, share = part.partition("=")
        name = EARLIER.get(name.strip(), name.strip())
        if name not in CATEGORIES or not share.strip().isdigit():
            raise SetupError(
                f"--task.mix says {part.strip()!r}, which is not a category with a share; write for example "
                f"single=4,irrelevant=1, with the categories {', '.join(CATEGORIES)}."
            )
        shares[name] = int(share)
    if not sum(shares.values()):
        raise SetupError("--task.mix gives no category a share; write for example single=4,irrelevant=1.")
    return shares


class UnitPlanner:
    """Draws calls, in the shares of a mix and evenly over the functions.

    Args:
        registry: all functions by name; calls are drawn only for those passed to `plan`.
        seeds: labelled examples of the training groups.
        embed: texts to unit vectors.
        workshop: makes calls in sandboxes.
        mix: shares of the categories.
        details: puts calls into words.
        write_value: from a function and one of its arguments to a value, for arguments with nothing to draw from.
        seed: seed of the draws.
    """

    def __init__(
        self,
        registry: Mapping[str, Function],
        seeds: Sequence[dspy.Example],
        embed: Embed,
        workshop: Workshop,
        mix: Mapping[str, int],
        details: Details,
        write_value: Callable[[Function, str, int], str],
        seed: int = 0,
    ) -> None:
        self.registry = dict(registry)
        self.seeds = list(seeds)
        self.embed = embed
        self.workshop = workshop
        self.mix = dict(mix)
        self.details = details
        self.write_value = write_value
        self.seed = seed
        seen = [call for example in seeds for call in calls_of(example.expected["calls"])]
        self.drawer = ValueDrawer([*seen, *(call for function in registry.values() for call in function.examples)])

    def plan(self, items: Sequence[Item], limit: int | None) -> list[RequestUnit]:
        """At most `limit` units; without one, four for each function."""
        functions = {item.id: item.function for item in items if isinstance(item, FunctionItem)}
        if not functions:
            return []
        groups = {item.id: item.group for item in items}
        total = limit if limit is not None else 4 * len(functions)
        pairs = self._pairs(functions) if self.mix.get("nested") else []
        mix = {name: share for name, share in self.mix.items() if share and (name != "nested" or pairs)}
        if len(functions) < 2:  # other functions offered are of the same split: held-out functions are not shown
            mix = {name: share for name, share in mix.items() if name not in ("choice", "irrelevant")} or {"single": 1}
        shares = _shares(mix, total)
        turns: dict[str, int] = Counter()
        units = []
        for category, count in shares.items():
            for number in range(count):
                rng = random.Random(f"{self.seed} {category} {number}")
                if category == "nested":
                    calls = self._nested(pairs, number, rng)
                else:
                    wanted = 2 if category == "parallel" else 1
                    calls = self._drawn(list(functions.values()), turns, wanted, rng)
                if calls:
                    units.append(self._unit(category, number, calls, groups, rng))
        return units

    def _drawn(self, functions: list[Function], turns: dict[str, int], wanted: int, rng: random.Random) -> list[Call]:
        """Calls of the function with the fewest turns so far, or of two; each can be executed without an error."""
        order = sorted(functions, key=lambda f: (turns[f.name], _hash(f"{self.seed} {f.name}")))
        for first in order[:4]:
            turns[first.name] += 1
            # Half of the pairs call one function twice; only functions of one split are combined.
            others = [first] if rng.random() < 0.5 else [f for f in order if f.name != first.name] or [first]
            calls = [self._call(function, rng, wanted == 1) for function in [first, rng.choice(others)][:wanted]]
            if None not in calls and len({str(call) for call in calls}) == wanted:
                return [call for call in calls if call is not None]
        return []

    def _call(self, function: Function, rng: random.Random, optional: bool = True) -> Call | None:
        """A valid call with drawn arguments that raises nothing; None after five failed draws."""
        for _ in range(TRIES):
            arguments = self.drawer.draw(function, rng, optional)
            for name in function.required:
                if name in arguments:
                    continue
                try:
                    arguments[name] = self.write_value(function, name, rng.randrange(1000))
                except SetupError:
                    raise  # it concerns every call
                except Exception as error:  # one unit less, not the end of the run
                    log.warning("no value for %s of %s: %s", name, function.name, error)
                    return None
            call = Call(function.name, {name: arguments[name] for name in function.properties if name in arguments})
            if not validate(call, self.registry.values()) and self._runs(call):
                return call
        return None

    def _runs(self, call: Call) -> bool:
        return not is_executable(call, self.registry) or self.workshop.run([call])[0].ok

    def _pairs(self, functions: Mapping[str, Function]) -> list[tuple[Function, Function, str]]:
        """(outer, inner, argument) whose inner result fits the outer argument, by type and description."""
        pairs = [
            (call.name, value.name, name)
            for example in self.seeds
            for call in calls_of(example.expected["calls"])
            for name, value in call.arguments.items()
            if isinstance(value, Call)
        ]
        returning = [(f, note) for f in functions.values() if (note := str((f.returns or {}).get("description", "")))]
        taking = [(f, name, schema) for f in functions.values() for name, schema in f.properties.items()]
        if returning and taking:
            given = self.embed([f"{first_sentence(f.description)}. {note}" for f, note in returning])
            taken = self.embed(
                [f"{name.replace('_', ' ')}: {schema.get('description', '')}" for _, name, schema in taking]
            )
            near = given @ taken.T
            for i, (inner, _) in enumerate(returning):
                for j, (outer, name, schema) in enumerate(taking):
                    types = json_types(inner.returns) & json_types(schema)
                    if outer.name != inner.name and types - {"boolean", "null"} and near[i, j] >= FITS:
                        pairs.append((outer.name, inner.name, name))
        return [
            (functions[outer], functions[inner], name)
            for outer, inner, name in dict.fromkeys(pairs)
            if outer in functions and inner in functions
        ]

    def _nested(self, pairs: list[tuple[Function, Function, str]], number: int, rng: random.Random) -> list[Call]:
        for attempt in range(4):
            outer, inner, name = pairs[(number + attempt) % len(pairs)]
            call, feeding = self._call(outer, rng, False), self._call(inner, rng, False)
            if call is None or feeding is None or not is_executable(feeding, self.registry):
                continue
            whole = Call(outer.name, {**call.arguments, name: feeding})
            if not validate(whole, self.registry.values()) and self._runs(whole):
                return [whole]
        return []

    def _unit(
        self, category: str, number: int, calls: list[Call], groups: Mapping[str, str], rng: random.Random
    ) -> RequestUnit:
        """A unit: the calls, the values to state, the functions offered, and how a conversation begins."""
        every = [each.name for call in calls for each in (call, *call.inner())]
        used = list(dict.fromkeys(every))
        function = self.registry[calls[0].name]
        about = expected = calls
        left_out = first_turns = must = None
        instead = ""
        if category == "missing_argument" and not function.required:
            category = "single"
        elif category == "missing_argument":
            missing = rng.choice(function.required)
            kept = {name: value for name, value in calls[0].arguments.items() if name != missing}
            about, expected = [Call(function.name, kept)], []
            left_out = self._left_out(function, missing, calls[0])
        elif category == "irrelevant":
            expected, used = [], []
        offered = self._offered(category, used, function, list(groups), rng)
        if category == "multi_turn":
            first_turns, about, expected, must, instead = self._turns(calls[0], rng)
        wanted = self.details.wanted(about, rng)
        executable = all(is_executable(call, self.registry) for call in expected)
        outcomes = self.workshop.run(expected) if executable else []
        return RequestUnit(
            id=f"{category}-{number}-{_hash(repr(calls))[:8]}",
            group=groups[calls[0].name],
            text=str(calls[0]),
            category=category,
            about=about,
            expected=expected,
            offered=offered,
            must=self.details.must(about) if must is None else must,
            wanted=instead or wanted,
            shots=self.details.shots_for(category, [call.name for call in about]),
            results=[outcome.as_json() for outcome in outcomes],
            system=rng.choice(SYSTEM_PROMPTS) if rng.random() < WITH_SYSTEM else "",
            left_out=left_out,
            first_turns=first_turns,
        )

    def _offered(
        self, category: str, used: list[str], function: Function, pool: Sequence[str], rng: random.Random
    ) -> list[str]:
        """Names to choose from: those called, and others; unlike the one meant where nothing shall fit."""
        others = [name for name in pool if name not in used and name != function.name]
        if category == "irrelevant":
            others = rng.sample(others, min(CONSIDERED, len(others)))
            vectors = self.embed([what_it_does(self.registry[name]) for name in [function.name, *others]])
            near = dict(zip(others, map(float, vectors[1:] @ vectors[0]), strict=True))
            far = sorted(others, key=lambda name: near[name])
            return rng.sample(far[: max(OFFERED, len(far) // 2)], min(rng.randint(1, OFFERED), len(far)))
        size = {"choice": OFFERED, "multi_turn": 2, "missing_argument": rng.randint(1, 2)}.get(category, len(used))
        if category in ("parallel", "nested") and rng.random() < 0.5:
            size += 1
        offered = used + rng.sample(others, min(max(0, size - len(used)), len(others)))
        rng.shuffle(offered)
        return offered

    def _turns(self, call: Call, rng: random.Random) -> tuple[FirstTurns, list[Call], list[Call], Sequence[Must], str]:
        """How a conversation begins; the last message's calls, expected calls, values and wording ("": default)."""
        function = self.registry[call.name]
        kind = rng.random()
        changed = [name for name in call.arguments if not isinstance(call.arguments[name], bool)]
        if kind < 0.55 and changed:
            name = rng.choice(changed)
            for _ in range(8):
                value = self.drawer.value(function.properties[name], name, rng, function)
                other = Call(call.name, {**call.arguments, name: value}) if value is not None else call
                if other != call and not validate(other, [function]) and self._runs(other):
                    must = [(name, each, self.details.note(other, name)) for _, each in leaves({name: value})]
                    wanted = self.details.instead(name, value, lambda value: spelt(value, rng))
                    return FirstTurns("follow-up", call), [other], [other], must, wanted
        required = [name for name in function.required if not isinstance(call.arguments[name], list | dict | bool)]
        if kind < 0.8 and required:
            name = rng.choice(required)
            rest = Call(call.name, {key: value for key, value in call.arguments.items() if key != name})
            clarification = rng.choice(CLARIFY).format(name.replace("_", " "))
            lacks, value = self._left_out(function, name, call), call.arguments[name]
            first_turns = FirstTurns("answer", rest, lacks, clarification, f"{spelt(value, rng)}.")
            return first_turns, [call], [call], [(name, value, "")], ""
        return FirstTurns("talk", call, last=rng.choice(TALK)), [call], [], [], ""

    def _left_out(self, function: Function, name: str, call: Call) -> LeftOut:
        drawn = [value for _, value in leaves({name: call.arguments[name]}) if isinstance(value, str)]
        return LeftOut(name, tuple(dict.fromkeys([*drawn, *self.drawer.texts(function.properties[name], name)])))


def _shares(mix: Mapping[str, int], total: int) -> dict[str, int]:
    """The number of units of each category, which sum to the total, by largest remainder."""
    exact = {name: total * share / sum(mix.values()) for name, share in mix.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
