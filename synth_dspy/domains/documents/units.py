"""Units of the synthesis: a span, a chunk, or a labelled seed's question about another document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import dspy

from synth_dspy.domains.documents.spans import Span
from synth_dspy.domains.documents.statements import Statement
from synth_dspy.synthesis.demonstrations import Choice


@dataclass(frozen=True, slots=True)
class DocumentUnit:
    """A text of one document, with the demonstrations for the teacher.

    Attributes:
        id: the chunk's id and the place in it.
        group: the document.
        text: the chunk, or the passages of a search.
        kind: the kind of answer; "" for any.
        choice: the demonstrations, and their category.
    """

    mode: ClassVar[str]

    id: str
    group: str
    text: str
    kind: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class SpanUnit(DocumentUnit):
    """A span that is the answer; `excerpt` is the sentence around it, `near` the words next to it."""

    mode: ClassVar[str] = "span"

    span: Span
    excerpt: str
    near: str


@dataclass(frozen=True, slots=True)
class ChunkUnit(DocumentUnit):
    """A chunk that the teacher may ask anything about."""

    mode: ClassVar[str] = "free"


@dataclass(frozen=True, slots=True)
class TransferredUnit(DocumentUnit):
    """A seed of another document, `like`, whose question is asked here and answered from a search."""

    mode: ClassVar[str] = "asked"

    like: dspy.Example


@dataclass(frozen=True, slots=True)
class SilentUnit(DocumentUnit):
    """A seed of another document, `like`, whose question this one does not answer."""

    mode: ClassVar[str] = "silent"

    like: dspy.Example


@dataclass(frozen=True, slots=True)
class StatementUnit(DocumentUnit):
    """A sentence of the text that a rule has made into a question and its answer."""

    mode: ClassVar[str] = "statement"

    statement: Statement
