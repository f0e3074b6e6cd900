"""Values of arguments: drawn from a schema for diversity, spelt as people write them, recognised in a text."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from synth_dspy.core.text import CARDINALS, MONTHS
from synth_dspy.domains.functions.schema import Call, Function
from synth_dspy.synthesis.text import tokens

FIRST_DAY = date(2026, 1, 1)
"""Dates are drawn from the year that begins here, unless a schema's examples say otherwise."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d\d:\d\d")
_RANGE = re.compile(r"\bfrom (-?\d+(?:\.\d+)?) to (-?\d+(?:\.\d+)?)")
_SUCH_AS = re.compile(r"\b(?:such as|e\.g\.,?|for example,?|like|one of) ([^.;()\n]+)", re.I)
ALIASES: Mapping[str, Sequence[str]] = {
    "EUR": ("euros", "euro", "€"),
    "USD": ("US dollars", "dollars", "US dollar", "dollar", "$"),
    "GBP": ("pounds sterling", "British pounds", "pounds", "pound", "£"),
    "JPY": ("Japanese yen", "yen", "¥"),
    "CHF": ("Swiss francs", "francs", "franc"),
    "SEK": ("Swedish kronor", "kronor", "krona"),
    "mm": ("millimetres", "millimeters", "millimetre"),
    "cm": ("centimetres", "centimeters", "centimetre"),
    "m": ("metres", "meters", "metre", "meter"),
    "km": ("kilometres", "kilometers", "kilometre", "kilometer"),
    "inch": ("inches",),
    "foot": ("feet",),
    "g": ("grams", "gram"),
    "kg": ("kilograms", "kilos", "kilogram", "kilo"),
    "Celsius": ("°C", "centigrade"),
    "Fahrenheit": ("°F",),
}
"""How people write what a schema abbreviates."""


# -- spellings ---------------------------------------------------------------------------------------------------------


def spellings(value: Any) -> list[str]:
    """Ways in which people write a single value, the schema's own first."""
    if isinstance(value, bool) or value is None:
        return [str(value)]
    if isinstance(value, int | float):
        plain = _plain(value)
        words = [CARDINALS[int(value)]] if value == int(value) and 0 <= value < len(CARDINALS) else []
        return list(dict.fromkeys([plain, *words, f"{value:,}".removesuffix(".0")]))
    text = str(value)
    if _DATE.fullmatch(text):
        year, month, day = map(int, text.split("-"))
        name = MONTHS[month - 1].capitalize()
        return [text, f"{day} {name} {year}", f"{name} {day}, {year}", f"{name} {_ordinal(day)}, {year}",
                f"the {_ordinal(day)} of {name} {year}"]  # fmt: skip
    if _TIME.fullmatch(text):
        hour, minute = int(text[:2]), text[3:]
        short = f"{hour % 12 or 12}{'' if minute == '00' else f':{minute}'} {'am' if hour < 12 else 'pm'}"
        return [text, text.removeprefix("0"), short]
    return [text, *ALIASES.get(text, ())]


def is_stated(value: Any, text: str) -> bool:
    """Whether a text states a value, in words or figures; for a list or an object, every leaf of it.

    True and False are never stated as such: see `leaves`.
    """
    if isinstance(value, list):
        return all(is_stated(each, text) for each in value)
    if isinstance(value, Mapping):
        return all(is_stated(each, text) for each in value.values())
    words = tokens(text)
    if isinstance(value, str) and _DATE.fullmatch(value):
        wanted = set(tokens(spellings(value)[1]))
        return any(wanted <= set(words[i : i + 4]) for i in range(len(words)))
    if isinstance(value, int | float) and value < 0 and not re.search(r"minus|negative|below|[-−–]\s*\d", text, re.I):
        return False
    low = text.lower()
    return any(
        _within(tokens(spelling), words) if tokens(spelling) else spelling.lower() in low
        for spelling in spellings(value)
    )


def as_stated(value: Any, text: str) -> str:
    """The spelling of a value that a text uses, or the value itself if it uses no known spelling."""
    low = text.lower()
    return next((each for each in sorted(spellings(value), key=len, reverse=True) if each.lower() in low), str(value))


def leaves(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The single values in the arguments of a call, each with the name of its argument or field.

    Nested calls give the leaves of their own arguments.
    """
    for name, value in arguments.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Call):
                yield from leaves(each.arguments)
            elif isinstance(each, Mapping):
                yield from leaves(each)
            else:
                yield name, each


def _within(wanted: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _ordinal(day: int) -> str:
    return f"{day}{'th' if 10 < day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


# -- drawing ----------------------------------------------------------------------------------------------------------


class ValueDrawer:
    """Draws arguments of a function: from enums, ranges, examples in its documentation, and labelled examples.

    Args:
        seen: calls in labelled examples; a value seen for an argument may be drawn for one of the same name.
        optional: the probability with which an optional argument is given.
    """

    def __init__(self, seen: Sequence[Call] = (), optional: float = 0.35) -> None:
        self.optional = optional
        self._seen: dict[str, list[Any]] = {}
        for call in seen:
            for name, value in leaves(call.arguments):
                self._seen.setdefault(name, []).append(value)

    def draw(self, function: Function, rng: random.Random, optional: bool = True) -> dict[str, Any]:
        """Arguments by name, without those that have nothing to draw from: the teacher writes them.

        Args:
            function: the function whose arguments are drawn.
            rng: the random generator.
            optional: also draw optional arguments.
        """
        given = [
            name
            for name in function.properties
            if name in function.required or (optional and rng.random() < self.optional / self._optional(function))
        ]
        drawn: dict[str, Any] = {}
        for name in given:
            for _ in range(8):  # two arguments of one kind, such as from and to, should differ
                value = self.value(function.properties[name], name, rng, function)
                if isinstance(value, bool) or value not in drawn.values():
                    break
            if value is not None:
                drawn[name] = value
        return drawn

    def _optional(self, function: Function) -> int:
        """The number of optional arguments less one, so that few of many are given."""
        return max(1, len(function.properties) - len(function.required) - 1)

    def value(self, schema: Mapping[str, Any], name: str, rng: random.Random, function: Function) -> Any:
        """A value for a schema, or None if only a teacher can invent one."""
        if "$ref" in schema:
            schema = (function.parameters.get("$defs") or {}).get(str(schema["$ref"]).rsplit("/", 1)[-1], {})
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return rng.choice([value for value in schema["enum"] if value is not None])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                options = [each for each in schema[key] if each.get("type") != "null"]
                note = {key: schema[key] for key in ("description",) if key in schema}
                return self.value({**note, **rng.choice(options)}, name, rng, function)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "string")
        match kind:
            case "boolean":
                return not schema["default"] if isinstance(schema.get("default"), bool) else rng.random() < 0.5
            case "integer" | "number":
                return self._number(schema, name, rng, whole=kind == "integer")
            case "array":
                count = rng.randint(max(1, schema.get("minItems", 1)), min(2, schema.get("maxItems", 2)))
                items = schema.get("items") or {"type": "string"}
                drawn = [self.value(items, name, rng, function) for _ in range(count)]
                kept = [each for i, each in enumerate(drawn) if each is not None and each not in drawn[:i]]
                return kept or None
            case "object":
                required = schema.get("required") or list(schema.get("properties") or ())
                properties = schema.get("properties") or {}
                fields = {each: self.value(properties[each], each, rng, function) for each in required}
                return None if None in fields.values() else fields or None
        return self._text(schema, name, rng)

    def texts(self, schema: Mapping[str, Any], name: str) -> list[str]:
        """The texts that may be drawn for an argument: examples in its documentation, and those seen."""
        seen = [value for value in self._seen.get(name, ()) if isinstance(value, str)]
        return [*map(str, schema.get("examples", ())), *_examples(str(schema.get("description", ""))), *seen]

    def _number(self, schema: Mapping[str, Any], name: str, rng: random.Random, whole: bool) -> float:
        seen = [value for value in self._seen.get(name, ()) if isinstance(value, int | float)]
        match = _RANGE.search(str(schema.get("description", "")))
        low, high = (float(match[1]), float(match[2])) if match else (min(seen, default=1), max(seen, default=50))
        low = float(schema.get("minimum", schema.get("exclusiveMinimum", low)))
        high = max(low, float(schema.get("maximum", schema.get("exclusiveMaximum", high))))
        if low > 0 and high / low > 20:  # people use small numbers more often than large ones
            value = low * (high / low) ** rng.random()
        else:
            value = rng.uniform(low, high)
        step = 1 if value < 30 else 5 if value < 200 else 50 if value < 5000 else 500
        rounded = round(value / step) * step
        if not low <= rounded <= high:
            rounded = round(value)
        if not whole and (rng.random() < 0.3 or not low <= rounded <= high):
            return float(round(value, 1 if value >= 1 else 2))
        return int(rounded)

    def _text(self, schema: Mapping[str, Any], name: str, rng: random.Random) -> str | None:
        note = str(schema.get("description", ""))
        examples = self.texts(schema, name)
        shape = str(schema.get("format", ""))
        like = examples[0] if examples else ""
        if shape == "date" or "YYYY-MM-DD" in note or _DATE.fullmatch(like):
            return (FIRST_DAY + timedelta(rng.randrange(365))).isoformat()
        if shape == "time" or "HH:MM" in note or _TIME.fullmatch(like):
            return f"{rng.randrange(7, 21):02d}:{rng.choice((0, 0, 15, 30, 45)):02d}"
        return rng.choice(examples) if examples else None


def _examples(note: str) -> list[str]:
    """The values that a description gives as examples: "such as Lisbon, Oslo or Kyoto"."""
    match = _SUCH_AS.search(note)
    if not match:
        return []
    return [part.strip(" '\"`") for part in re.split(r",\s*(?:or |and )?| or | and ", match[1]) if part.strip(" '\"`")]
