"""Normalises answers to comparable tokens: one spelling for dates, amounts, number words and inflected forms.

"two (2) years", "2 years" and "Two-year" have the same tokens, as do "3/3/2021", "3 March 2021" and "March 3rd, 2021".
All comparisons of answers use these tokens.
"""

from __future__ import annotations

import enum
import json
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


def one_line(text: str) -> str:
    """A text with each run of white space replaced by one space."""
    return " ".join(text.split())


def counted(n: int, noun: str, plural: str = "") -> str:
    """ "1 item", "1,200 items"; `plural` where it is not the noun with an s."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def as_text(value: Any) -> str:
    """An answer as text, the same for equal values: a string as it is, anything else as JSON."""
    from pydantic_core import to_jsonable_python

    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str):
        return value
    return json.dumps(to_jsonable_python(value, fallback=str), ensure_ascii=False, sort_keys=True)


def overlap_f1(ours: Counter[str], theirs: Counter[str]) -> float:
    """F1 of two bags of words, in [0, 1]; 1.0 if both are empty."""
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (ours & theirs).total() / (ours.total() + theirs.total())


MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_MONTH = {name: i + 1 for i, name in enumerate(MONTHS)} | {name[:3]: i + 1 for i, name in enumerate(MONTHS)}
_MONTH["sept"] = 9
CARDINALS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
"""The numbers from 0 to 20, in order."""
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth",
)  # fmt: skip
_NUMBER = {word: i for i, word in enumerate(CARDINALS)} | {word: 10 * i for i, word in enumerate(_TENS, start=2)}
_ORDINAL = {word: i for i, word in enumerate(_ORDINALS, start=1)}
_SCALE = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ROMAN = {"II": 2, "III": 3, "IV": 4, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "XI": 11, "XII": 12, "XIV": 14, "XVI": 16}
_SAME = {"colour": "color", "centre": "center", "theatre": "theater", "percentage": "percent", "mr": "mister",
         "dr": "doctor", "mt": "mount", "ft": "fort", "saint": "st", "can't": "cannot", "usa": "us"}  # fmt: skip

STOPWORDS = words(
    "a an the of in on at to for by with from and or as is are was were be been being am do does did has have had "
    "it its this that these those there he she they them his her their we our i you your who whom whose which what "
    "when where why how s t will would shall can could might must so also into than then about"
)

_NAMES = "|".join(sorted(_MONTH, key=len, reverse=True))
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_DATES = (
    (re.compile(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b"), "ymd"),
    (re.compile(r"\b(\d{1,2})[/.](\d{1,2})[/.](\d{4}|\d{2})\b"), "mdy"),
    (re.compile(rf"\b{_DAY}(?:\s+day)?(?:\s+of)?[\s,-]+({_NAMES})\b\.?(?:[\s,-]+(?:of\s+)?(\d{{4}})\b)?", re.I), "dMy"),
    (re.compile(rf"\b({_NAMES})\b\.?\s+{_DAY}\b(?!\d)(?:\s*,?\s*(\d{{4}})\b)?", re.I), "Mdy"),
)
_TOKEN = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\w\s]")
_ACRONYM = re.compile(r"\b(?:[A-Za-z]\.){2,}")
_YEARS = re.compile(r"\b(1\d|20)(\d\d)\s?[-–—/]\s?(\d\d)\b(?![-–—/]?\d)")
_FOOTNOTE = re.compile(r"\b((?:1[5-9]|20)\d\d)\d{1,2}(?=\s*(?:[.;]|$))")
"""A year followed directly by a footnote number, as in answers with citations."""
_SHORT_SCALE = re.compile(r"([£$€]\s?\d[\d,.]*)\s?(m|mn|bn|k)\b", re.I)
_SCALES = {"m": " million", "mn": " million", "bn": " billion", "k": " thousand"}
_ORDINAL_SUFFIX = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b", re.I)


@dataclass(frozen=True, slots=True)
class Token:
    """`norm` is the normalised form; `kind` is "n" number, "c" capitalised word, "o" capitalised word that begins a
    sentence, "w" other word, "p" punctuation."""

    norm: str
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text with normalised dates, and its tokens, whose offsets refer to that text."""

    text: str
    tokens: tuple[Token, ...]
    words: tuple[int, ...]
    """Indices into `tokens` of the content words: all but punctuation and stopwords, in order."""


def _year(text: str) -> str:
    if len(text) == 2:
        return ("20" if int(text) < 50 else "19") + text
    return text


def _spell_date(match: re.Match[str], order: str) -> str:
    a, b, c = match.groups()
    if order == "ymd":
        year, month, day = a, int(b), int(c)
    elif order == "mdy":
        month, day, year = int(a), int(b), _year(c)
        if month > 12:
            month, day = day, month
    elif order == "dMy":
        day, month, year = int(a), _MONTH[b.lower()], c or ""
    else:
        month, day, year = _MONTH[a.lower()], int(b), c or ""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return match.group()
    return f"{MONTHS[month - 1].capitalize()} {day}" + (f", {year}" if year else "")


def _base_form(word: str) -> str:
    """Strip inflection: plurals and participles map to their base form, derived words do not.

    The reference judge was fitted on these forms. The lexical search uses a stronger stemmer.
    """
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 5 and word.endswith(("sses", "ches", "shes", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 5 and word.endswith("ing"):
        word = word[:-3]
    elif len(word) > 4 and word.endswith("ed"):
        word = word[:-2]
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    if len(word) > 4 and word.endswith("e"):
        word = word[:-1]
    return word


def _number(text: str) -> str:
    value = text.replace(",", "")
    if "." in value:
        value = value.rstrip("0").rstrip(".")
    return value.lstrip("0") or "0"


def _merge_numbers(tokens: list[Token]) -> list[Token]:
    """Merge "twenty-five", "5 million", "a hundred and eighty" and "two (2)" into one number token each."""
    out: list[Token] = []
    for tok in tokens:
        last = out[-1] if out else None
        if tok.kind == "n" and _completes_hundreds(out, tok):
            hundreds = out[-1] if out[-1].kind == "n" else out[-2]
            del out[out.index(hundreds) :]
            tok = Token(str(int(hundreds.norm) + int(tok.norm)), "n", hundreds.start, tok.end)
            last = out[-1] if out else None
        if last and last.kind == "n" and tok.norm in _SCALE and "." not in last.norm and last.norm.isdigit():
            out[-1] = Token(str(int(last.norm) * _SCALE[tok.norm]), "n", last.start, tok.end)
        elif last and last.kind == "n" and tok.norm in _SCALE:
            out[-1] = Token(_number(str(round(float(last.norm) * _SCALE[tok.norm]))), "n", last.start, tok.end)
        elif last and last.norm == "a" and tok.norm in _SCALE:
            out[-1] = Token(str(_SCALE[tok.norm]), "n", last.start, tok.end)
        elif (
            tok.kind == "n"
            and len(out) > 1
            and tok.norm.isdigit()
            and 0 < int(tok.norm) < 10
            and out[-1].norm in "- "
            and out[-2].kind == "n"
            and out[-2].end - out[-2].start > 3
            and out[-2].norm.isdigit()
            and int(out[-2].norm) % 100 in range(20, 100, 10)
            and (int(out[-2].norm) < 100 or out[-2].end - out[-2].start > 8)
        ):
            out[-2:] = [Token(str(int(out[-2].norm) + int(tok.norm)), "n", out[-2].start, tok.end)]
        elif tok.kind == "n" and len(out) > 1 and out[-1].norm == "(" and out[-2].norm == tok.norm:
            continue
        else:
            out.append(tok)
    return out


def _completes_hundreds(out: list[Token], tok: Token) -> bool:
    """Whether a number word below a hundred belongs to the hundreds before it: "one hundred (and) eighty"."""
    before = out[-2] if len(out) > 1 and out[-1].norm == "and" else out[-1] if out else None
    spelled = before is not None and before.kind == "n" and before.end - before.start > 8 and before.norm.isdigit()
    if before is None or not spelled or not tok.norm.isdigit() or tok.end - tok.start < 3:
        return False
    return int(before.norm) % 1000 in range(100, 1000, 100) and 0 < int(tok.norm) < 100


@lru_cache(maxsize=8192)
def parse(text: str) -> Text:
    """Normalised tokens of a text. Cached, since a reference and its question are compared with many predictions."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("`", "'")
    text = _ACRONYM.sub(lambda m: m.group().replace(".", "") + (" " if m.group()[-1] == "." else ""), text)
    for pattern, order in _DATES:
        text = pattern.sub(lambda m, order=order: _spell_date(m, order), text)  # type: ignore[misc]
    text = _YEARS.sub(lambda m: f"{m[1]}{m[2]}-{m[1]}{m[3]}", text)
    text = _FOOTNOTE.sub(r"\1", text)
    text = _SHORT_SCALE.sub(lambda m: m[1] + _SCALES[m[2].lower()], text)
    text = _ORDINAL_SUFFIX.sub("", text)
    raw: list[Token] = []
    opening = True
    for match in _TOKEN.finditer(text):
        piece = match.group()
        start, end = match.span()
        if piece[0].isdigit():
            raw.append(Token(_number(piece), "n", start, end))
            opening = False
        elif piece[0].isalpha():
            word = "".join(c for c in unicodedata.normalize("NFKD", piece) if not unicodedata.combining(c)).lower()
            if word.endswith("'s"):
                word = word[:-2]
            if word in _NUMBER:
                raw.append(Token(str(_NUMBER[word]), "n", start, end))
            elif word in _ORDINAL and word != "second":
                raw.append(Token(str(_ORDINAL[word]), "n", start, end))
            elif piece in _ROMAN and raw and raw[-1].kind == "c":
                raw.append(Token(str(_ROMAN[piece]), "n", start, end))
            else:
                word = _SAME.get(word, word)
                kind = "c" if piece[0].isupper() and word not in STOPWORDS else "w"
                stem = word if word in STOPWORDS or word in _SCALE or word in _MONTH else _base_form(word)
                raw.append(Token(stem, "o" if kind == "c" and opening else kind, start, end))
            opening = False
        else:
            raw.append(Token(piece, "p", start, end))
            opening = piece in ".!?"
    tokens = tuple(_merge_numbers(raw))
    words = tuple(i for i, t in enumerate(tokens) if t.kind != "p" and t.norm not in STOPWORDS)
    return Text(text, tokens, words)


def is_blank(value: object) -> bool:
    """Whether an input has no value: nothing, or a text of nothing but spaces."""
    return value is None or (isinstance(value, str) and not value.strip())
