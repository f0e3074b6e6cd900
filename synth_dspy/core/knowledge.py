"""Knowledge: what a source yields once read, and what training data is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, runtime_checkable

from typing_extensions import TypeVar

if TYPE_CHECKING:
    import dspy


@dataclass(frozen=True, slots=True)
class Document:
    """A document as the rest of the engine sees it.

    Attributes:
        id: Stable from run to run: the file's stem where that is unique in its folder, else with a hash of its path.
        title: For people: the file's stem, or the title that a data set gives.
        text: Cleaned text; paragraphs are separated by newlines.
        path: Where it was read from, relative to the folder that was given.
    """

    id: str
    title: str
    text: str
    path: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was not read: its path relative to the folder, and why, as a phrase that follows the path."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Neighbouring chunks of a document, put together.

    Attributes:
        id: The id of the first chunk.
        document: The document's id.
        text: The chunks' text.
        score: The best of the chunks' fused scores; comparable within one search only.
        position: The first chunk's place in the document.
    """

    id: str
    document: str
    text: str
    score: float
    position: int


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of knowledge to generate from: a chunk, a function, a topic, an industry.

    `group` is what splits are made by (the document, the function), before anything is generated. A source whose items
    are more than a text has a subclass with further fields.
    """

    id: str
    group: str
    text: str


class Unit(Protocol):
    """What a synthesizer is asked to write about: an item as it is, or what a domain's own units choose of one.

    `id` is unique, `group` its item's, `text` what a candidate must be grounded in.
    """

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def text(self) -> str: ...


UnitT_co = TypeVar("UnitT_co", bound=Unit, default=Unit, covariant=True)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[UnitT_co]):
    """A generated example before the filters have judged it.

    Attributes:
        id: unique; see `synth_dspy.synthesis.pipeline.candidate_id`.
        unit: what it was written about.
        fields: the program's inputs and outputs, and what else its row shall hold.
        category: for break-downs.
        inputs: names of the program's inputs.
    """

    id: str
    unit: UnitT_co
    fields: Mapping[str, Any]
    category: str = ""
    inputs: tuple[str, ...] = ("question", "document")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of a candidate. `score` in [0, 1] where the filter has one, else 0.0 or 1.0."""

    keep: bool
    score: float
    why: str


KEPT = Verdict(True, 1.0, "")


def rejected(why: str) -> Verdict:
    """The verdict of a filter without a score on a candidate that it rejects."""
    return Verdict(False, 0.0, why)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a source yields once read.

    Attributes:
        items: what training data is generated from.
        labelled: human-labelled examples about it, perhaps none.
        prompts: labelled examples from elsewhere, for prompting the teacher where `labelled` is empty.
        documents: what the index holds; empty for a source without documents.
        skipped: what could not be read, and why.
        strata: by group, what each split gets its share of, such as the label of a row.
        held_out: groups that are scored on, whatever the split would say, as the questions about them were proposed for
            that; the others are learned from.
    """

    items: Sequence[Item]
    labelled: Sequence[dspy.Example] = ()
    prompts: Sequence[dspy.Example] = ()
    documents: Sequence[Document] = ()
    skipped: Sequence[Skipped] = ()
    strata: Mapping[str, str] = field(default_factory=dict)
    held_out: frozenset[str] = frozenset()


class Source(Protocol):
    """Where the task's knowledge comes from. `read()` does I/O; building a source does not.

    `limit` bounds the number of groups, taken in an order that does not depend on the folder's.
    """

    def read(self, limit: int | None = None) -> Knowledge: ...


@runtime_checkable
class Checked(Protocol):
    """A source that knows what nobody could learn from, and raises a `SetupError` that says so.

    It is asked where a run begins or goes on. An older run's programs are loaded without: what they have learned from
    may have been edited since.
    """

    def check(self) -> None: ...
