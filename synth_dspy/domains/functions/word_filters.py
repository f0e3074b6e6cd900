"""Filters on the words of a request: it states all values of the calls and nothing else.

They call no model: they look at words, not at meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from synth_dspy.core.knowledge import KEPT, Candidate, Verdict, rejected
from synth_dspy.domains.functions.json_schema import json_types
from synth_dspy.domains.functions.prompts import first_sentence
from synth_dspy.domains.functions.schema import Call, Function
from synth_dspy.domains.functions.units import LeftOut, RequestUnit
from synth_dspy.domains.functions.values import is_stated, leaves, spellings
from synth_dspy.synthesis.text import content, number_counts, numbers, tokens

CAPITAL = re.compile(r"(?<![.?!:]\s)(?<=\s)[\"'“‘(]?([A-Z][\w-]*)")
_QUOTED = re.compile(r"[\"“]([^\"”]+)[\"”]|(?<!\w)['‘]([^'’]+)['’](?!\w)")
_PLAIN_KINDS = frozenset({"integer", "number", "boolean"})
_OF_ANY = frozenset(content("whether only also without everything all people included goes once sent"))
"""Words of options' descriptions that do not identify an option."""
_INTO = r"\b(?:to|into)\s+(?:the\s+)?"
_BEFORE = re.compile(r"\b(?:that|the same) (?:same )?(?:day|date|time)\b", re.I)
_WHEN = re.compile(r"\d{4}-\d\d-\d\d(?:T.*)?|\d\d:\d\d")
_NOT = re.compile(r"\b(?:not|no|without|never)\b|n['’]t\b", re.I)
_REFUSAL = re.compile(
    r"\b(?:I['’]m sorry|I am sorry|unable to|as an AI|I can(?:not|['’]t)|glad to help|happy to)\b", re.I
)
_TARGET = re.compile(r"^(?:to_|target|destination|end|wanted)|_to$", re.I)
_ORIGIN = re.compile(r"^(?:from_|source|origin|start)|_from$", re.I)


class WellFormedRequest:
    """One or a few sentences of sensible length, in words rather than code, that repeat nothing."""

    name = "well-formed"

    def __init__(self, shortest: int = 3, longest: int = 45) -> None:
        self.shortest = shortest
        self.longest = longest

    def __call__(self, candidate: Candidate) -> Verdict:
        text = str(candidate.fields["question"]).strip()
        words = [word.lower() for word in text.split()]
        few = 1 if candidate.fields.get("conversation") else self.shortest
        if not few <= len(words) <= self.longest:
            return rejected("too short or too long")
        if _REFUSAL.search(text):
            return rejected("not a request")
        if re.search(r"[_={}\[\]<>|]|\w\(|\(.*:|:\s.*:\s", text) or text[-1] not in ".?!":
            return rejected("not a sentence")
        runs = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
        if max(runs.values(), default=0) > 1 or any(a == b for a, b in pairwise(words)):
            return rejected("repeats itself")
        return KEPT


class StatesValues:
    """The request states every value of the calls, in figures or words, and names every option that is switched."""

    name = "arguments said"

    def __call__(self, candidate: Candidate[RequestUnit]) -> Verdict:
        text = str(candidate.fields["question"])
        for name, value, note in candidate.unit.must:
            if isinstance(value, bool):
                if not names_option(name, note, text) or (value is False and not _NOT.search(text)):
                    return rejected(f"an option is not stated: {name}")
            elif not is_stated(value, text):
                return rejected(f"a value is not stated: {name}")
        return KEPT


class NothingElse:
    """The request states no number, no value of an enum and no option that the calls lack.

    Nor does it state a number more often than they do: in "we are two, for two nights" one of the two is the guests.

    Nor does it state a value of an argument that was left out: no known value and, if the argument is text, no name and
    nothing in quotation marks. In a conversation it says "that day" only if the call takes over a day.
    """

    name = "nothing made up"

    def __init__(self, registry: Mapping[str, Function]) -> None:
        self.registry = registry

    def __call__(self, candidate: Candidate[RequestUnit]) -> Verdict:
        unit, text = candidate.unit, str(candidate.fields["question"])
        every = [each for call in unit.about for each in (call, *call.inner())]
        values = [value for call in unit.about for _, value in leaves(call.arguments)]
        left_out = unit.left_out.name if unit.left_out else ""
        ways = [spellings(value) for value in values if not isinstance(value, bool)]
        held = Counter(number for each in ways for number in frozenset().union(*map(numbers, each)))
        counts = number_counts(text)
        if made_up := counts.keys() - held.keys() - {"1"}:
            return rejected(f"an invented number: {', '.join(sorted(made_up))}")
        if again := [number for number, often in counts.items() if often > max(1, held[number])]:
            return rejected(f"a number is repeated: {', '.join(sorted(again))}")
        stated = {token for each in ways for way in each for token in tokens(way)}
        for call in every:
            properties = self.registry[call.name].properties
            # "38 Celsius in Fahrenheit": if a function takes the target unit only, the source may be stated too.
            converts = not any(map(_ORIGIN.search, properties))
            for name, schema in properties.items():
                also = converts and _TARGET.search(name) and name != left_out
                for option in () if also else schema.get("enum") or ():
                    if option not in values and is_stated(option, text) and not set(tokens(str(option))) <= stated:
                        return rejected(f"another value is stated: {option}")
                unset = schema.get("type") == "boolean" and name not in call.arguments
                if unset and _switches(self.registry[call.name], name, text, stated):
                    return rejected(f"an option is stated that is not set: {name}")
        if candidate.fields.get("conversation") and _BEFORE.search(text):
            new = [value for _, value, _ in unit.must]
            if not any(_WHEN.fullmatch(str(value)) and value not in new for value in values):
                return rejected("an invented day")
        if unit.left_out and (left_out_value := self._left_out(unit, unit.left_out, text, stated)):
            return rejected(f"the argument left out may be stated: {left_out_value}")
        return KEPT

    def _left_out(self, unit: RequestUnit, left_out: LeftOut, text: str, stated: set[str]) -> str:
        """The part of a request that may state the argument left out; "" if there is none."""
        name = left_out.name
        function = self.registry[unit.about[0].name]
        schema = function.properties[name]
        for value in left_out.texts:
            if is_stated(value, text) and not set(tokens(value)) <= stated:
                return value
        types = json_types(schema, function.parameters.get("$defs") or {})
        if types and types <= _PLAIN_KINDS:
            return ""
        others = [f"{key} {each.get('description', '')}" for key, each in function.properties.items() if key != name]
        own = " ".join([unit.wanted, function.name, function.description, name, *others]).replace("_", " ")
        allowed = stated | set(tokens(own)) | {"i", "i'm", "i'd", "i'll", "i've", "ok", "m", "d", "ll", "ve"}
        quoted = [first or second for first, second in _QUOTED.findall(text)]
        return next((each for each in [*CAPITAL.findall(text), *quoted] if not set(tokens(each)) <= allowed), "")


class Roles:
    """Values of one kind are not swapped: "5 miles to km" does not ask to convert from kilometres.

    Only the clearest signs count: the word directly after a number is the source; the word after "to" or
    "into" is the target, and so is the one in the question after a statement ("It is nine in Oslo, so what
    time is it in Kyoto?").
    """

    name = "roles"

    def __call__(self, candidate: Candidate[RequestUnit]) -> Verdict:
        text = str(candidate.fields["question"])
        if len(candidate.unit.about) > 1:
            return KEPT  # one call's source may be the other's target
        statement, target_part = _parts(text)
        for call in candidate.unit.about:
            texts = {name: word for name, value in call.arguments.items() if (word := _word(value))}
            targets = [value for name, value in texts.items() if _TARGET.search(name)]
            for name, value in texts.items():
                words = "|".join(re.escape(each) for each in spellings(value))
                if _TARGET.search(name) and re.search(rf"\d\s*(?:{words})\b", text, re.I):
                    return rejected(f"swapped: {name}")
                if _ORIGIN.search(name):
                    late = is_stated(value, target_part) and not is_stated(value, statement)
                    if re.search(rf"{_INTO}(?:{words})\b", text, re.I) or (
                        late
                        and any(
                            is_stated(target, statement) and not is_stated(target, target_part) for target in targets
                        )
                    ):
                        return rejected(f"swapped: {name}")
        return KEPT


def _word(value: Any) -> str:
    """The text that states a value in a request: for a nested call, its own argument's; "" if there is none."""
    if isinstance(value, Call):
        words = [word for each in value.arguments.values() if (word := _word(each))]
        return words[0] if len(words) == 1 else ""
    return value if isinstance(value, str) else ""


def _parts(text: str) -> tuple[str, str]:
    """The statement before the last question word, and the question from there on."""
    questions = list(re.finditer(r"\b(?:what|how|which)\b", text, re.I))
    at = questions[-1].start() if questions else 0
    return text[:at], text[at:]


def names_option(name: str, note: str, text: str) -> bool:
    """Whether a text names an option, with a word of its name or of its description."""
    words = set(content(name.replace("_", " "))) | set(content(first_sentence(note)))
    return bool(words & set(tokens(text)))


def _switches(function: Function, option: str, text: str, stated: set[str]) -> bool:
    """Whether a text names an option in words that belong neither to a value nor to the function."""
    note = first_sentence(function.properties[option].get("description", ""))
    own = content(f"{function.name} {first_sentence(function.description)}".replace("_", " "))
    words = set(content(f"{option} {note}".replace("_", " "))) - set(own) - _OF_ANY
    return bool(words & set(tokens(text)) - stated)
