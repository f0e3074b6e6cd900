"""Chunks: a document split at section, paragraph and sentence boundaries into pieces of about the same size.

A chunk's id is the hash of its document and its text. Chunks start afresh at every section, so an edit changes only the
ids of the chunks around it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from synth_dspy.core.knowledge import Document

CHUNK_WORDS: Final = 40
_LONGEST: Final = 2.5  # longest sentence that is kept whole, in chunk sizes
_LONGEST_WORD: Final = 256  # characters: anything longer is data, not a word, and is cut
_TAIL: Final = 64  # characters before a boundary that tell whether a sentence ends there

# What "." does not end a sentence after: titles, corporate forms, references to a numbered thing, initials.
_ABBREVIATIONS: Final = re.compile(
    r"(?:mrs?|ms|dr|prof|[sj]r|st|nos?|secs?|arts?|paras?|cl|exs?|figs?|inc|ltd|co|corp|llc|lp|plc|bros|dept|approx|est|"
    r"vs?|vol|rev|eds?|al|etc|cf|viz|i\.e|e\.g|u\.s(?:\.a)?|u\.k|d\.c|n\.v|s\.a|b\.v|[ap]\.m|jan|feb|mar|apr|jun|jul|aug|"
    r"sept?|oct|nov|dec|[a-hj-z])",
    re.I,
)
_BOUNDARY: Final = re.compile(r"([.!?][\"'”’)\]]*|[;:])\s+(?=[\"'“‘(\[]?[A-Z0-9(\[“\"])")
_LAST_WORD: Final = re.compile(r"(?<!['’])([A-Za-z.]+?)[.!?]?[\"'”’)\]]*\s*$")
_NUMBERED: Final = re.compile(r"\s*(?:section|article|clause)?\s*\d{1,3}(?:\.\d{1,3})*[.)]?\s*$", re.I)
# The beginning of a section, matched in every sentence, since conversions often put several sections on one line.
_SECTION: Final = re.compile(
    r"(?:#{1,6}\s|(?:Section|SECTION|Article|ARTICLE)\s+[\dIVX]+[.:]?\s|(?:EXHIBIT|SCHEDULE|ANNEX|APPENDIX)\s+\w+"
    r"|\d{1,2}(?:\.\d{1,2})*[.)]?\s+[\"“]?[A-Z])"
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document.

    Attributes:
        id: Hash of the document's id and the text (and, for repeated text, which repetition this is).
        document: The document's id.
        text: As in the document, paragraphs separated by newlines.
        position: 0, 1, 2, ... in the document's order.
        words: Number of words, separated by white space.
        repeated: How many words at the beginning of the text repeat the end of the chunk before.
    """

    id: str
    document: str
    text: str
    position: int
    words: int
    repeated: int = 0

    @property
    def own_text(self) -> str:
        """The text without what it repeats: the own texts of all chunks are the document, once."""
        return self.text.split(" ", self.repeated)[-1]


def chunk_document(document: Document, words: int = CHUNK_WORDS, overlap: int = 0) -> list[Chunk]:
    """Split a document.

    Args:
        document: A document with cleaned text.
        words: Words up to which sentences are joined; most chunks have between half of that and all of it. A longer
            sentence is a chunk of its own, and is cut only beyond 2.5 times as many words.
        overlap: How many of a chunk's words, at its beginning, repeat the end of the chunk before.

    Returns:
        The chunks in order; their own texts joined are the document's text, except for white space.
    """
    if words - overlap < 1 or overlap < 0:
        raise ValueError(f"a chunk must have room for a word of its own: {words} words with {overlap} of overlap")
    chunks: list[Chunk] = []
    seen: dict[str, int] = {}
    before: list[str] = []
    for position, own in enumerate(_pack(document.text, words - overlap)):
        text = " ".join([*before, own])
        repetition = seen[text] = seen.get(text, -1) + 1
        key = f"{document.id}\n{text}\n{repetition}" if repetition else f"{document.id}\n{text}"
        id = hashlib.sha256(key.encode()).hexdigest()[:16]
        chunks.append(Chunk(id, document.id, text, position, len(text.split()), len(before)))
        before = own.split()[-overlap:] if overlap else []
    return chunks


def sentences(paragraph: str) -> list[str]:
    """The sentences of one paragraph; for contracts, ";" and ":" end one too."""
    out: list[str] = []
    start = 0
    for match in _BOUNDARY.finditer(paragraph):
        if paragraph[match.start()] == "." and not _ends(paragraph, start, match.end(1)):
            continue
        out.append(paragraph[start : match.end(1)].strip())
        start = match.end()
    if tail := paragraph[start:].strip():
        out.append(tail)
    return out


def _ends(paragraph: str, start: int, end: int) -> bool:
    """Whether the "." before `end` ends the sentence that begins at `start`."""
    tail = paragraph[max(start, end - _TAIL) : end]
    if end - start <= _TAIL and _NUMBERED.fullmatch(tail):
        return False  # "4.2 Payment": the number belongs to the heading
    match = _LAST_WORD.search(tail)
    if match is None:
        return True
    return not _ABBREVIATIONS.fullmatch(match.group(1).strip("."))


def _pack(text: str, words: int) -> Iterator[str]:
    """Sentences joined up to `words`, starting afresh at a section once a chunk is a quarter full."""
    buffer: list[tuple[str, bool]] = []  # (sentence, begins a paragraph)
    size = 0
    for sentence, is_paragraph, is_section in _units(text, words):
        count = len(sentence.split())
        full = size + count > words
        if buffer and (full or (is_section and size >= words // 4) or (is_paragraph and size >= words // 2)):
            # A heading goes with the text below it.
            carried = buffer.pop() if full and len(buffer) > 1 and _is_heading(buffer[-1]) else None
            yield _join(buffer)
            buffer = [carried] if carried else []
            size = len(carried[0].split()) if carried else 0
        buffer.append((sentence, is_paragraph))
        size += count
    if buffer:
        yield _join(buffer)


def _units(text: str, words: int) -> Iterator[tuple[str, bool, bool]]:
    """Sentences, long ones cut, each with whether it begins a paragraph and a section."""
    for paragraph in text.split("\n"):
        is_first = True
        for sentence in sentences(paragraph):
            is_section = _SECTION.match(sentence) is not None
            for piece in _at_most(sentence, round(_LONGEST * words)):
                yield piece, is_first or is_section, is_section
                is_first = is_section = False


def _at_most(sentence: str, words: int) -> Iterator[str]:
    """A sentence, cut into about equal parts, at commas if possible, if it is too long."""
    parts = [piece for word in sentence.split() for piece in _pieces(word)]
    start = 0
    while (left := len(parts) - start) > words:
        pieces_left = -(-left // words)
        target = -(-left // pieces_left)
        nearby = range(min(words, target + words // 4), max(1, target - words // 4) - 1, -1)
        cut = next((i for i in nearby if parts[start + i - 1][-1] in ",;:)"), min(words, target))
        yield " ".join(parts[start : start + cut])
        start += cut
    if start < len(parts):
        yield " ".join(parts[start:])


def _pieces(word: str) -> list[str]:
    return [word[i : i + _LONGEST_WORD] for i in range(0, len(word), _LONGEST_WORD)]


def _is_heading(unit: tuple[str, bool]) -> bool:
    sentence, is_paragraph = unit
    return (
        is_paragraph and len(sentence.split()) <= 8 and (sentence[0] == "#" or not sentence.endswith((".", ";", ",")))
    )


def _join(buffer: list[tuple[str, bool]]) -> str:
    return "".join((("\n" if is_first else " ") if i else "") + s for i, (s, is_first) in enumerate(buffer))
