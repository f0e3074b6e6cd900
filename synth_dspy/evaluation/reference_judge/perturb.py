"""Answers made to fool a judge, and true answers said in other ways.

An answer judge that an arm is trained against is attacked: "It is not X" holds all the words of X. From an item whose
answer X is known, `attack` makes a false answer of a given kind and `rephrase` a true one. The judge's fit learns from
them; its phrasings are in `phrasings`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from synth_dspy.core.text import CARDINALS, MONTHS, parse
from synth_dspy.evaluation.reference_judge.phrasings import CLOSERS, OPENERS
from synth_dspy.evaluation.reference_judge.quantities import quantities

_WH = re.compile(r"^(?:what|which|who|when|where)(?:['’]s|\s+(?:is|are|was|were))\s+(.+?)\??$", re.IGNORECASE)


def subject(question: str) -> str:
    """What the question asks about, as a noun phrase where the question allows: "the governing law"."""
    match = _WH.match(question.strip())
    return (match.group(1) if match else question.strip().rstrip("?")).strip()


_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def expand(template: str, rng: random.Random) -> str:
    """A phrasing with one alternative drawn for each `[a|b]`, innermost first."""
    while match := _CHOICE.search(template):
        template = template[: match.start()] + rng.choice(match.group(1).split("|")) + template[match.end() :]
    return " ".join(template.split(" ")).replace("  ", " ")


def fill(template: str, answer: str, question: str, others: Sequence[str]) -> str:
    """A template with its slots filled; `others` are two other answers."""
    x, y, z = (text.strip().rstrip(".") for text in (answer, *others[:2]))
    s = subject(question)
    text = template.replace("{q}", question.strip()).replace("{s}", s).replace("{y}", y).replace("{z}", z)
    text = text.replace("{x}", x)
    return text[:1].upper() + text[1:] if template.startswith("{s}") else text


def wrap(text: str, rng: random.Random) -> str:
    """The text, at times with an opening or a closing phrase that does not change its meaning."""
    if rng.random() < 0.2:
        text = rng.choice(OPENERS) + text
    if rng.random() < 0.12:
        text += rng.choice(CLOSERS) if text.rstrip()[-1:] in '.!?"' else "." + rng.choice(CLOSERS)
    return text


def change_number(answer: str, rng: random.Random) -> str | None:
    """The answer with one digit changed; None if it has none."""
    places = [i for i, character in enumerate(answer) if character.isdigit()]
    if not places:
        return None
    place = rng.choice(places)
    digit = rng.choice([d for d in "123456789" if d != answer[place]])
    return answer[:place] + digit + answer[place + 1 :]


def swap_digits(answer: str, rng: random.Random) -> str | None:
    """The answer with two neighbouring digits swapped; None where that changes nothing."""
    places = [i for i in range(len(answer) - 1) if answer[i : i + 2].isdigit() and answer[i] != answer[i + 1] != "0"]
    if not places:
        return None
    i = rng.choice(places)
    return answer[:i] + answer[i + 1] + answer[i] + answer[i + 2 :]


_NUMBER_WORD = re.compile(
    rf"\b({'|'.join(CARDINALS[1:])}|thirty|forty|fifty|sixty|ninety|\d{{1,2}})\b(?![,.]\d)", re.IGNORECASE
)


def change_number_word(answer: str, rng: random.Random) -> str | None:
    """The answer with a small number, spelled or not, changed to another that is spelled; None where it has none."""
    found = [m for m in _NUMBER_WORD.finditer(answer) if not answer[: m.start()].endswith((",", ".", "$", "£", "€"))]
    if not found:
        return None
    match = rng.choice(found)
    return answer[: match.start()] + rng.choice((*CARDINALS[2:], "thirty", "forty", "ninety")) + answer[match.end() :]


_UNIT = re.compile(r"\b(day|week|month|year|hour)(s?)\b", re.IGNORECASE)
_SIGN = re.compile(r"[$£€%]|\b(?:USD|EUR|GBP|CAD|CHF|dollars|euros|pounds|percent)\b")
_SIGNS = ("$", "£", "€", "CHF ", "CAD ", "¥")


def change_unit(answer: str, rng: random.Random) -> str | None:
    """The answer with the same figure in another unit or currency; None where it has none."""
    match = _UNIT.search(answer)
    if match and any(q.kind == "time" for q in quantities(answer)):
        unit = rng.choice([u for u in ("day", "week", "month", "year", "business day") if u != match.group(1).lower()])
        return answer[: match.start()] + unit + match.group(2) + answer[match.end() :]
    match = _SIGN.search(answer)
    if match is None or not any(q.unit for q in quantities(answer)):
        return None
    if match.group() in {"%", "percent"}:
        return answer[: match.start()] + rng.choice((" basis points", " dollars", " days")) + answer[match.end() :]
    sign = rng.choice([sign for sign in _SIGNS if sign.strip() not in match.group()])
    return answer[: match.start()] + sign + answer[match.end() :]


def add_number(answer: str, rng: random.Random) -> str | None:
    """The answer with another figure of its own kind before or after it; None where it holds no quantity."""
    held = quantities(answer)
    other = change_number(answer, rng) or (rng.choice(CARDINALS[2:]) if held else None)
    if not held or other is None:
        return None
    first, second = (other, answer) if rng.random() < 0.5 else (answer, other)
    return f"{first}{rng.choice((' ', ', ', ' - ', ' (', ' and '))}{second}"


_MONTH = re.compile(rf"\b({'|'.join(MONTHS)})\b", re.IGNORECASE)


def change_month(answer: str, rng: random.Random) -> str | None:
    """The answer with one month changed; None where it names none."""
    months = [match for match in _MONTH.finditer(answer) if match.group()[0].isupper()]
    if not months:
        return None
    match = rng.choice(months)
    month = rng.choice([name for name in MONTHS if name != match.group().lower()]).capitalize()
    return answer[: match.start()] + (month.upper() if match.group().isupper() else month) + answer[match.end() :]


_NAME = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][a-z]{2,}\b|\b[A-Z][a-z]+(?:\s+[A-Z][a-z]+)+\b")


def change_name(answer: str, names: Sequence[str], rng: random.Random, *, word_only: bool = False) -> str | None:
    """The answer with one name (or one word of it) changed to another of `names`; None if it has none."""
    matches = [m for m in _NAME.finditer(answer) if m.group().lower() not in MONTHS]
    if not matches:
        if len(answer.split()) > 2 or not answer[:1].isupper() or not answer.isalpha():
            return None
        return rng.choice(names)
    match = rng.choice(matches)
    new = rng.choice(names)
    old = match.group()
    if word_only and " " in old:
        parts = old.split()
        parts[rng.randrange(len(parts))] = rng.choice(new.split())
        new = " ".join(parts)
    changed = answer[: match.start()] + new + answer[match.end() :]
    return changed if {t.norm for t in parse(changed).tokens} != {t.norm for t in parse(answer).tokens} else None
