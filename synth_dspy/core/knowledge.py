"""Knowledge: what reading a source yields, and what training data is generated from."""

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
        title: Display name: the file's stem, or the title in the data set.
        text: Cleaned text; paragraphs are separated by newlines.
        path: Its path, relative to the given folder.
        also: Ids and paths of further files with the same text, which are not read twice.
    """

    id: str
    title: str
    text: str
    path: str
    also: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or table that was not read: its path relative to the folder, and the reason as a phrase to follow it.

    `kept` if it was read all the same, and the phrase says what it lacks.
    """

    path: str
    why: str
    kept: bool = False


SHOWN = 10
"""Skipped files that a sentence names."""


def skipped_sentences(skipped: Sequence[Skipped], where: str = "") -> list[str]:
    """Which files or tables were skipped, and which were kept although incomplete, with the reasons.

    Args:
        skipped: of both kinds, perhaps none.
        where: what lists those that are too many for a sentence.
    """
    sentences = []
    for kept, what in ((False, "skipped"), (True, "kept although incomplete")):
        of_kind = [skip for skip in skipped if skip.kept is kept]
        shown = "; ".join(f"{skip.path} {skip.why}" for skip in of_kind[:SHOWN])
        more = f"; and {len(of_kind) - SHOWN} more{where}" if len(of_kind) > SHOWN else ""
        sentences += [f"{len(of_kind)} {what}: {shown}{more}."] if of_kind else []
    return sentences


@dataclass(frozen=True, slots=True)
class Passage:
    """Adjacent chunks of a document, joined.

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

    `group` is the unit of splitting (the document, the function). A source whose items have more than a text defines a
    subclass with further fields.
    """

    id: str
    group: str
    text: str


class Unit(Protocol):
    """What a synthesizer writes about: an item, or a domain's own unit made from one.

    `id` is unique, `group` is the item's, and candidates must be grounded in `text`.
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
    """A generated example, before filtering.

    Attributes:
        id: unique; see `synth_dspy.synthesis.pipeline.candidate_id`.
        unit: what it was written about.
        fields: the program's inputs and outputs, and further fields of its row.
        category: for breakdowns in the report.
        inputs: names of the program's inputs.
    """

    id: str
    unit: UnitT_co
    fields: Mapping[str, Any]
    category: str = ""
    inputs: tuple[str, ...] = ("question", "document")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A filter's decision about a candidate. `score` is in [0, 1]; 0.0 or 1.0 for a filter without scores."""

    keep: bool
    score: float
    why: str


KEPT = Verdict(True, 1.0, "")


def rejected(why: str) -> Verdict:
    """The verdict of a filter without scores that rejects a candidate."""
    return Verdict(False, 0.0, why)


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What reading a source yields.

    Attributes:
        items: what training data is generated from.
        labelled: human-labelled examples about it, if any.
        prompts: labelled examples from elsewhere, for prompting the teacher if `labelled` is empty.
        documents: the documents to index; empty for a source without documents.
        skipped: what was not read, with reasons, and what was read but lacks something.
        notes: sentences on what the figures are about, for the terminal and the top of the report's notes.
        strata: stratum of each group, such as the label of a row; splits are stratified by it.
        held_out: groups that are the test split, because the questions about them were proposed for it; the others are
            split into the rest.
    """

    items: Sequence[Item]
    labelled: Sequence[dspy.Example] = ()
    prompts: Sequence[dspy.Example] = ()
    documents: Sequence[Document] = ()
    skipped: Sequence[Skipped] = ()
    notes: Sequence[str] = ()
    strata: Mapping[str, str] = field(default_factory=dict)
    held_out: frozenset[str] = frozenset()


class Source(Protocol):
    """Where the task's knowledge comes from. `read()` does I/O; building a source does not.

    `limit` bounds the number of groups, taken in an order that does not depend on the order of files in the folder.
    """

    def read(self, limit: int | None = None) -> Knowledge: ...


@runtime_checkable
class Checked(Protocol):
    """A source that raises a `SetupError` if nothing could be learned from its data.

    It is checked when a run starts or resumes, but not when an older run's programs are loaded: the data may have been
    edited since.
    """

    def check(self) -> None: ...
