"""Undoes page layout in a text, and changes nothing else.

Page furniture (numbers, running headers and footers) is removed, words hyphenated at a line's end are joined,
hard-wrapped lines become paragraphs again, and typographic characters are replaced. Otherwise only white space changes,
so that a sentence of the original is in the cleaned text once white space is normalised.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from itertools import groupby, islice, pairwise
from statistics import median
from typing import Final

_REPLACED: Final = str.maketrans(
    {"\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u3000": " ", "\u2028": "\n", "\u2029": "\n\n", "\x0b": "\n",
     "\u00ad": None, "\u200b": None, "\u200c": None, "\u200d": None, "\u2060": None, "\ufeff": None, "\ufffd": None,
     "ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
)  # fmt: skip
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# Normalisation takes time quadratic in the number of marks on a letter. No script has more than a few; UAX #15 allows
# 30.
_MOST_MARKS: Final = 30
_LONG_RUN: Final = re.compile(rf"[^\w\s\x00-\x7f]{{{_MOST_MARKS + 1},}}")
_NUMBER_LINE: Final = re.compile(r"[-–—\s]*(\d{1,4})[-–—\s]*")
_PAGE_LINE: Final = re.compile(
    r"[-–—\s]*page\s+\d{1,4}(\s*(of|/)\s*\d{1,4})?[-–—\s.]*|[-–—]\s*[ivxl]{1,6}\s*[-–—]", re.I
)
_HYPHEN: Final = re.compile(r"(?<=[a-z])-[ \t]*\n\s*([a-z]+)")
_WORD: Final = re.compile(r"[a-z]{3,}")
# How a clause or a list item begins: a new line there is a boundary, not a wrapped line.
_ITEM: Final = re.compile(
    r"(\(?[a-z]{1,4}[.)]|\(?[ivxl]+\)|\(?\d{1,2}(\.\d+)*[.)]?\s|[#>|*•·▪●-]|(section|article|exhibit|schedule)\s)", re.I
)
# Sections that a conversion ran together on one line: "... of delivery.   4.2 Payment. The ..."
_INLINE_ITEM: Final = re.compile(r"(?<=[.;:,])[ \t]{2,}(?=(\(?[a-z]{1,3}\)|\d{1,2}(\.\d+)*[.)]?)\s+\S)")
_MIN_REPEATS: Final = 3
_PAGE_CHARACTERS: Final = 800


class Cleaner:
    """Cleans a document, and quotations from it in the same way, so that it still contains them.

    Which lines are page furniture and which words exist is learned from the whole document.

    Args:
        document: The document's raw text, with form feeds between pages if these are known.
    """

    def __init__(self, document: str) -> None:
        raw = _characters(document)
        self._numbers, self._headers = _furniture(raw)
        self._words = frozenset(_WORD.findall(raw.lower()))
        self._raw = raw

    def text(self) -> str:
        """The cleaned document: paragraphs separated by one newline."""
        # A running header is often the document's title: its first occurrence stays.
        return self._clean(self._raw, keep_first=True)

    def quote(self, quotation: str) -> str:
        """A part of the raw document, cleaned like the document. Empty only if the quotation is blank."""
        raw = _characters(quotation)
        return self._clean(raw, keep_first=False) or self._clean(raw, keep_first=True)

    def _clean(self, raw: str, keep_first: bool) -> str:
        kept = []
        seen: set[str] = set()
        for line in raw.replace("\f", "\n\n").split("\n"):
            bare = line.strip()
            if bare in self._headers and keep_first and bare not in seen:
                seen.add(bare)
            elif bare in self._headers or bare in self._numbers:
                continue
            kept.append(line)
        return _paragraphs(_INLINE_ITEM.sub("\n\n", self._join_hyphenated("\n".join(kept))))

    def _join_hyphenated(self, text: str) -> str:
        # "termi-/nation" is joined if the document has the word elsewhere; "non-/exclusive" keeps its hyphen.
        parts: list[str] = []
        end = 0
        for match in _HYPHEN.finditer(text):
            # Searched backwards from the hyphen: a pattern would try every letter of a long word.
            hyphen = start = match.start()
            while start > end and (text[start - 1].isalnum() or text[start - 1] == "_"):
                start -= 1
            if start == hyphen:  # it was just joined to the line before
                continue
            word = text[start:hyphen] + match[1]
            parts += [text[end:hyphen], "" if word.lower() in self._words else "-", match[1]]
            end = match.end()
        return "".join([*parts, text[end:]])


def clean(text: str) -> str:
    """The cleaned text of a whole document: paragraphs separated by one newline."""
    return Cleaner(text).text()


def normalise_space(text: str) -> str:
    """A text with single spaces for its white space, for comparing a quotation with a text."""
    return " ".join(text.split())


def _characters(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_REPLACED)
    text = _LONG_RUN.sub(_without_excess_marks, text)
    return _CONTROL.sub("", unicodedata.normalize("NFC", text))


def _without_excess_marks(run: re.Match[str]) -> str:
    groups = groupby(run[0], key=lambda character: unicodedata.combining(character) > 0)
    return "".join(c for is_mark, group in groups for c in (islice(group, _MOST_MARKS) if is_mark else group))


def _furniture(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Page furniture: lines with page numbers, and running headers and footers."""
    places: defaultdict[str, list[int]] = defaultdict(list)  # a line's shape, digits masked -> where it occurs
    lines: defaultdict[str, set[str]] = defaultdict(set)
    numbers: list[tuple[int, int, str]] = []
    page_lines: set[str] = set()
    headers: set[str] = set()
    offset = 0
    for raw in text.replace("\f", "\n").split("\n"):
        line = raw.strip()
        if number := _NUMBER_LINE.fullmatch(line):
            numbers.append((int(number.group(1)), offset, line))
        elif _PAGE_LINE.fullmatch(line):
            page_lines.add(line)
        elif 2 <= len(line.split(maxsplit=25)) <= 24 and not line.endswith((";", ",", ":")):
            shape = re.sub(r"\d+", "0", line)
            places[shape].append(offset)
            lines[shape].add(line)
        offset += len(raw) + 1
    for shape, where in places.items():
        if len(where) >= _MIN_REPEATS and _are_on_different_pages(where):
            (page_lines if len(lines[shape]) > 1 else headers).update(lines[shape])
    # A number alone on its line is a page number only if the next or previous number is its neighbour and a page away;
    # otherwise it may be a table cell.
    for (one, here, line), (two, there, other) in pairwise(numbers):
        if two == one + 1 and there - here >= _PAGE_CHARACTERS:
            page_lines |= {line, other}
    return frozenset(page_lines), frozenset(headers)


def _are_on_different_pages(where: list[int]) -> bool:
    return median(b - a for a, b in pairwise(where)) >= _PAGE_CHARACTERS


def _paragraphs(text: str) -> str:
    """Wrapped lines joined, paragraphs kept, each on one line."""
    paragraphs: list[list[str]] = []  # the lines of each
    length = 0  # of the last paragraph, in characters
    after_blank = True
    for raw in text.split("\n"):
        line = normalise_space(raw)
        if not line:
            after_blank = True
            continue
        if paragraphs and _continues(paragraphs[-1], length, line, after_blank):
            paragraphs[-1].append(line)
            length += 1 + len(line)
        else:
            paragraphs.append([line])
            length = len(line)
        after_blank = False
    return "\n".join(map(" ".join, paragraphs))


def _continues(previous: list[str], length: int, line: str, after_blank: bool) -> bool:
    """Whether `line` continues an unfinished sentence of the lines in `previous`."""
    if _ITEM.match(line) or (previous[0].startswith("#") and after_blank):  # a heading is whole
        return False
    is_open = previous[-1][-1] not in ".;:!?"
    if after_blank:  # a page break within a sentence
        return is_open and line[0].islower()
    return not previous[0].startswith("#") and (line[0].islower() or (length > 60 and is_open))
