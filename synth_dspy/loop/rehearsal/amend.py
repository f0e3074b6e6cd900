"""Amends documents so that the right answers change: every number of an answer becomes another one, wherever it stands.

Sums, periods and dates change alike in a document, in its labelled answers, and in the questions, in digits and in
words, so that document and labels agree afterwards as they did before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: n for n, word in enumerate(_UNITS)} | {word: 20 + 10 * n for n, word in enumerate(_TENS)}
_WORDS |= {f"{tens}-{_UNITS[n]}": _WORDS[tens] + n for tens in _TENS for n in range(1, 10)}
_WORD = "|".join(sorted(_WORDS, key=len, reverse=True))
_NUMBER = re.compile(rf"(?<![\w.])\d{{1,3}}(?:,\d{{3}})+(?!\w)|(?<!\w)\d+(?!\w)|\b(?:{_WORD})\b", re.IGNORECASE)


def numbers(texts: Iterable[str]) -> frozenset[int]:
    """The whole numbers that texts name, in digits or in words up to ninety-nine; "one" is also a pronoun, and "zero"
    stays what it is."""
    every = (_value(each.group()) for text in texts for each in _NUMBER.finditer(text))
    return frozenset(value for value in every if value > 1)


def amend(text: str, changed: frozenset[int]) -> str:
    """A text in which these numbers are others: days of a month stay days, and years become the next year."""

    def other(match: re.Match[str]) -> str:
        given = match.group()
        value = _value(given)
        if value not in changed:
            return given
        new = _other(value, is_year=1900 <= value <= 2100 and "," not in given)
        if given[0].isdigit():
            return f"{new:,}" if "," in given else str(new)
        word = _UNITS[new] if new < 20 else _TENS[new // 10 - 2] + (f"-{_UNITS[new % 10]}" if new % 10 else "")
        return word.upper() if given.isupper() else word.capitalize() if given[0].isupper() else word

    return _NUMBER.sub(other, text)


def _value(number: str) -> int:
    return int(number.replace(",", "")) if number[0].isdigit() else _WORDS[number.lower()]


def _other(value: int, *, is_year: bool) -> int:
    if value <= 20:
        return value + 7
    if value < 100:
        return value - 9
    return value + 1 if is_year else value + value // 5
