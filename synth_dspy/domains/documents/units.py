"""What a question is written about: a span, a chunk, or what labelled seeds ask of other documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import dspy

from synth_dspy.domains.documents.spans import Span
from synth_dspy.synthesis.demonstrations import Choice


@dataclass(frozen=True, slots=True)
class DocumentUnit:
    """A text of one document, and how the teacher is asked about it.

    Attributes:
        id: the chunk's, and what is asked for in it.
        group: the document.
        text: the chunk; of a question that was searched for, the passages.
        kind: the kind of answer; "" where any will do.
        choice: the demonstrations to show, and the category they are of.
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
class AskedUnit(DocumentUnit):
    """A seed of another document, `like`, whose question is asked here, and is answered from a search."""

    mode: ClassVar[str] = "asked"

    like: dspy.Example


@dataclass(frozen=True, slots=True)
class SilentUnit(DocumentUnit):
    """A seed of another document, `like`, whose question this one does not answer."""

    mode: ClassVar[str] = "silent"

    like: dspy.Example
