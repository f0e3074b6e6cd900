"""Building blocks of EBNF: literals, choices, integers in a range, and strings that match a regular expression.

The dialect is xgrammar's. Everything is exact or narrower than specified, never wider, except that `numbers` allows any
fraction if no integer lies between the bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_MOST_DIGITS = 16
_LARGEST = 10**_MOST_DIGITS - 1
_OPEN_REPEATS = 32  # the bound of `*` and `+` in a pattern: a model may never stop repeating

_LONG_MONTH = "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
_SHORT_MONTH = "(0[469]|11)-(0[1-9]|[12][0-9]|30)"
_DATE = f"[12][0-9]{{3}}-({_LONG_MONTH}|{_SHORT_MONTH}|02-(0[1-9]|1[0-9]|2[0-8]))"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
FORMATS = {"date": _DATE, "time": _TIME, "date-time": f"{_DATE}T{_TIME}Z?"}
"""Patterns of JSON schema formats with a fixed shape. Only valid dates match; 29 February is left out."""

_CLASSES = {"d": "0-9", "w": "A-Za-z0-9_", "s": " "}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_PART = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{(\d+)(?:,(\d+))?\}|[()|?]')
_QUANTIFIER = re.compile(r"\{(\d+)(,(\d*))?\}")


def literal(text: str) -> str:
    """`text` as an EBNF string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def choice(options: list[str]) -> str:
    """One of `options`, parenthesised if there are several."""
    return "(" + " | ".join(f"({option})" for option in options) + ")" if len(options) > 1 else options[0]


def integers(low: float | None = None, high: float | None = None) -> str:
    """Exactly the whole numbers from `low` to `high`, both included, in decimal; of at most 16 digits.

    Raises:
        ValueError: There are none.
    """
    if low is None and high is None:
        return f'"-"? ("0" | [1-9] [0-9]{{0,{_MOST_DIGITS - 1}}})'
    least = -_LARGEST if low is None else max(-_LARGEST, math.ceil(low))
    most = _LARGEST if high is None else min(_LARGEST, math.floor(high))
    if least > most:
        raise ValueError(f"no whole number lies between {low} and {high}")
    options = []
    if least < 0:
        options += [f'"-" ({each})' for each in _naturals(max(1, -most), -least)]
    if most >= 0:
        options += _naturals(max(0, least), most)
    return choice(options)


def numbers(low: float | None = None, high: float | None = None) -> str:
    """Numbers from `low` to `high` with at most 8 decimal places; a fraction never leaves the range."""
    fraction = '"." [0-9]{1,8}'
    if low is None and high is None:
        return f"{integers()} ({fraction})?"
    options = []
    for sign, bottom, top in (("", low, high), ('"-" ', *_mirrored(low, high))):
        if top is not None and (top < 0 or (sign and top == 0)):
            continue
        least = max(0, bottom or 0)
        with_fraction = None if top is None else math.floor(top) - 1
        for most, ending in ((top, ""), (with_fraction, f" {fraction}")):
            try:
                whole = integers(math.ceil(least), most)
            except ValueError:
                continue
            options.append(f"{sign}{whole}{ending}")
    # No integer lies between 0.2 and 0.8, say: allow any fraction of one.
    return choice(options) if options else f'"0" {fraction}'


def pattern(regex: str, specials: str) -> str | None:
    """The inside of a quoted string that matches `regex` completely, or None if EBNF cannot express it.

    `*`, `+` and `{n,}` end after 32 repetitions. Look-arounds, back-references and word boundaries have no EBNF.

    Args:
        regex: A regular expression of a JSON schema.
        specials: The characters that a string literal escapes with a backslash.
    """
    try:
        re.compile(regex)
    except re.error:
        return None
    text = regex.removeprefix("^")
    if text.endswith("$") and not text.endswith("\\$"):
        text = text[:-1]
    parts: list[str] = []
    position = 0
    while position < len(text):
        char = text[position]
        if char == "(":
            if text.startswith("(?", position) and not text.startswith("(?:", position):
                return None
            position += 3 if text.startswith("(?:", position) else 1
            parts.append("(")
        elif char in ")|":
            # An empty branch, as in (a|), is EBNF's empty literal.
            parts.append(('"" ' if not parts or parts[-1] in ("(", "|") else "") + char)
            position += 1
        elif char in "*+?{":
            match = _QUANTIFIER.match(text, position)
            if char == "{" and match is None:
                return None
            if not parts or parts[-1] in ("(", "|"):
                return None
            parts[-1] += _repetition(char, match)
            position = match.end() if match and char == "{" else position + 1
            if text[position : position + 1] in ("?", "+"):  # lazy or possessive: the same strings
                position += 1
        elif char == "[":
            end = _class_end(text, position)
            written = _char_class(text[position + 1 : end], specials)
            if written is None:
                return None
            parts.append(written)
            position = end + 1
        elif char == "\\":
            if text[position + 1] in "bBAZ" or text[position + 1].isdigit():
                return None
            written = _char_class(text[position : position + 2], specials)
            if written is None:
                return None
            parts.append(written)
            position += 2
        elif char in "^$":
            return None
        else:
            parts.append(f"[^{_classed(specials)}\\x00-\\x1f]" if char == "." else _quoted(char, specials))
            position += 1
    return " ".join(parts) + (' ""' if not parts or parts[-1] == "|" else "")


def nested_size(text: str) -> int:
    """The total size of nested repetitions in a piece of EBNF, which dominates the time to compile a grammar.

    A single repeated character class costs next to nothing.
    """
    sizes, last, total = [0], 0, 0  # of the groups that are open; of the last part; of all repeats of repeats
    for match in _PART.finditer(text):
        part = match[0]
        if part == "(":
            sizes.append(0)
        elif part[0] in "{?":
            times = int(match[2] or match[1] or 1)
            total += last * times if last > 1 and times > 1 else 0
            sizes[-1] += last * (times - 1)
            last *= times
        elif part != "|":
            last = sizes.pop() if part == ")" else 1
            sizes[-1] += last
    return total


def _mirrored(low: float | None, high: float | None) -> tuple[float, float | None]:
    """The range of -x for the negative x between `low` and `high`."""
    return 0.0 if high is None else max(0.0, -high), None if low is None else -low


def _naturals(low: int, high: int) -> list[str]:
    """The numbers from `low` to `high` (0 <= low <= high) as alternatives, without leading zeros."""
    options = []
    shortest, longest = len(str(low)), len(str(high))
    full_from = None  # lengths whose numbers are all in the range are merged
    for length in range(shortest, longest + 1):
        least, most = (0 if length == 1 else 10 ** (length - 1)), 10**length - 1
        if length > 1 and low <= least and most <= high:
            full_from = full_from or length
            if length < longest:
                continue
        if full_from is not None:
            upto = length if most <= high else length - 1
            options.append(f"[1-9] [0-9]{{{full_from - 1},{upto - 1}}}")
            full_from = None
            if upto == length:
                continue
        options += _same_length(str(max(low, least)), str(min(high, most)))
    return options


def _same_length(low: str, high: str) -> list[str]:
    if not low:
        return []
    if low == high:
        return [literal(low)]
    if set(low) == {"0"} and set(high) == {"9"}:
        return [f"[0-9]{{{len(low)}}}"]
    if len(low) == 1:
        return [f"[{low}-{high}]"]
    if low[0] == high[0]:
        return [f"{literal(low[0])} {choice(_same_length(low[1:], high[1:]))}"]
    rest = len(low) - 1
    first, last = int(low[0]), int(high[0])
    options = []
    if low[1:] != "0" * rest:
        options.append(f"{literal(low[0])} {choice(_same_length(low[1:], '9' * rest))}")
        first += 1
    top = []
    if high[1:] != "9" * rest:
        top.append(f"{literal(high[0])} {choice(_same_length('0' * rest, high[1:]))}")
        last -= 1
    if first <= last:
        options.append(f"[{first}-{last}] [0-9]{{{rest}}}")
    return options + top


def _repetition(char: str, match: re.Match[str] | None) -> str:
    if char == "?":
        return "?"
    if char in "*+" or match is None:
        return f"{{{0 if char == '*' else 1},{_OPEN_REPEATS}}}"
    low = int(match[1])
    if match[2] is None:
        return f"{{{low}}}"
    return f"{{{low},{match[3] or low + _OPEN_REPEATS}}}"


def _class_end(text: str, start: int) -> int:
    """The end of the class that opens at `start`; a leading closing bracket is a member."""
    position = start + (2 if text[start + 1] == "^" else 1)
    if text[position] == "]":
        position += 1
    while text[position] != "]":
        position += 2 if text[position] == "\\" else 1
    return position


def _char_class(inside: str, specials: str) -> str | None:
    """A class, or one escaped character, as EBNF; None if EBNF cannot express it."""
    negated = inside.startswith("^")
    ranges: list[tuple[str, str]] = []
    members, position, open_range = "", int(negated), False
    while position < len(inside):
        char = inside[position]
        if char == "-" and ranges and not open_range and position + 1 < len(inside):
            open_range, position = True, position + 1
            continue
        if char == "\\":
            position += 1
            char = inside[position]
            if char in _CLASSES:
                members += _CLASSES[char]
                position += 1
                continue
            if char.isalnum() and char not in _ESCAPED:  # \D, \S, \x41, ...
                return None
            char = _ESCAPED.get(char, char)
        if open_range:
            ranges[-1], open_range = (ranges[-1][0], char), False
        else:
            ranges.append((char, char))
        position += 1
    if negated:
        members += "".join(_span(first, last) for first, last in ranges)
        return f"[^{members}{_classed(specials)}\\x00-\\x1f]"
    escaped = [_quoted(s, specials) for s in (*specials, "\n", "\t") if any(a <= s <= b for a, b in ranges)]
    for first, last in ranges:
        members += "".join(_span(*each) for each in _parts(first, last, specials))
    return choice([f"[{members}]"] * bool(members) + escaped) if members or escaped else None


def _parts(first: str, last: str, specials: str) -> Iterator[tuple[str, str]]:
    """Split a range of characters at control characters and `specials`, which are left out."""
    begin, end = max(ord(first), ord(" ")), ord(last)
    for special in sorted(ord(each) for each in specials if begin <= ord(each) <= end):
        if begin < special:
            yield chr(begin), chr(special - 1)
        begin = special + 1
    if begin <= end:
        yield chr(begin), chr(end)


def _span(first: str, last: str) -> str:
    return _classed(first) if first == last else f"{_classed(first)}-{_classed(last)}"


def _quoted(char: str, specials: str) -> str:
    """A character inside a quoted string."""
    if char in specials:
        return literal("\\" + char)
    return literal({"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, char))


def _classed(chars: str) -> str:
    """Characters as members of an EBNF class."""
    return "".join("\\" + char if char in '\\]-^"[' else char for char in chars)
