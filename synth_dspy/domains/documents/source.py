"""A corpus as a task's source: documents from a folder or from CUAD, and the labelled questions about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document, Item, Knowledge
from synth_dspy.core.protocols import Filter
from synth_dspy.core.resources import Resources
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.documents.chunks import Chunk, chunk_document
from synth_dspy.domains.documents.contract_synthesis import DOCUMENTS
from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.domains.documents.documents import read_folder, without_copies
from synth_dspy.domains.documents.labelled import check_labels, read_labels
from synth_dspy.domains.documents.proposals import proposals_file
from synth_dspy.domains.documents.reader_process import Limits
from synth_dspy.domains.documents.synthesis import DocumentSynthesis

FOLDER = "documents"
QUESTIONS = "questions.jsonl"
INPUTS = ("question", "document")


@dataclass(frozen=True)
class Documents:
    """A folder of documents of any kind and, where there are some, labelled questions about them.

    Attributes:
        folder: text, Markdown, HTML, PDF and DOCX are read.
        labelled: labelled questions, JSON lines or CSV: `question`, `answer` (or `references`) and, where it is about
            one document, `document`. A relative path begins in the folder's parent. None: the teacher proposes
            questions, and a person reviews them.
        abstain: the answer to a question that the documents do not answer.
        max_mib: larger files are skipped.
        synthesis: how questions about documents of this kind are written.
        prompts: other documents, whose labelled questions show the teacher how to write where these have none.
    """

    folder: Path
    labelled: Path | str | None = None
    abstain: str = ""
    max_mib: int = 20
    synthesis: DocumentSynthesis = field(default=DOCUMENTS, repr=False)
    prompts: Documents | None = field(default=None, repr=False)

    @property
    def proposals(self) -> Path | None:
        """The file of proposed questions about these documents; None where there are labels."""
        return proposals_file(Path(self.folder).expanduser()) if self.labelled is None else None

    def read(self, limit: int | None = None) -> Knowledge:
        """Read and cut the documents; `limit` takes that many in an order that their names' hashes give.

        Raises:
            SetupError: nothing can be read, or the labelled questions are not as they should be.
        """
        if self.max_mib < 1:
            raise SetupError(f"--task.max-mib is {self.max_mib}, and no document is that small: make it 1 or more.")
        path = None
        if self.labelled is not None:
            path = Path(self.folder).expanduser().resolve().parent / Path(self.labelled).expanduser()
            check_labels(path)
        files, skipped = read_folder(Path(self.folder).expanduser(), Limits(file_bytes=self.max_mib * 2**20))
        every, copies = without_copies(files)
        documents = _limited(every, limit)
        chunks = _chunks(documents)
        labelled = [] if path is None else self._examples(path, every, chunks)
        return Knowledge(
            items=_items(chunks),
            labelled=labelled,
            prompts=() if labelled or self.prompts is None else self.prompts.read().labelled,
            documents=documents,
            skipped=sorted([*skipped, *copies], key=lambda skip: skip.path),
        )

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled questions of another file about the same documents, to score programs on.

        Raises:
            SetupError: a line is not as it should be, or is about a document that is not read; names line and field.
        """
        check_labels(path)
        documents = self.read(limit).documents
        return self._examples(path, documents, _chunks(documents))

    def synthesizer(self, resources: Resources) -> dspy.Module:
        """The module that writes questions about the documents."""
        return self.synthesis.synthesizer(resources)

    def filters(self, resources: Resources) -> list[Filter]:
        """What a written question must pass."""
        return self.synthesis.filters(resources)

    def _examples(
        self, path: Path, every: Sequence[Document], chunks: Mapping[str, Sequence[Chunk]]
    ) -> list[dspy.Example]:
        """The questions of a file, but those about documents that are left out."""
        return as_examples(read_labels(path, every, self.abstain), chunks, self.abstain)


@dataclass(frozen=True)
class Corpus:
    """What a sample task reads: the user's own documents or CUAD, else the documents that come with it.

    Attributes:
        sample: a folder with `documents/` and `questions.jsonl`; what is read when nothing else is named, and whose
            questions show the teacher how to write where the documents have none of their own.
        abstention: the answer to a question that the document does not answer.
        documents: a folder of the user's own documents, instead of the sample.
        labelled: labelled questions about those documents, as `Documents` reads them.
        cuad: CUAD, as a folder of contracts or as the publisher's CUAD_v1.json, instead of either.
        categories: of CUAD's, those that are asked about; all if there are none.
        max_mib: larger files of the user's own documents are skipped.
        synthesis: how questions about documents of this kind are written.
    """

    sample: Path
    abstention: str
    documents: Path | None = None
    labelled: Path | None = None
    cuad: Path | None = None
    categories: tuple[str, ...] = ()
    max_mib: int = 20
    synthesis: DocumentSynthesis = field(default=DOCUMENTS, repr=False)

    @property
    def proposals(self) -> Path | None:
        """The file of proposed questions about the user's own documents; None where there are labels."""
        return self._own.proposals if self.cuad is None else None

    def read(self, limit: int | None = None) -> Knowledge:
        """Read and cut the documents; `limit` takes that many in an order that their names' hashes give.

        Raises:
            SetupError: nothing can be read, or the labelled questions are not as they should be.
        """
        if self.labelled is not None and self.documents is None:
            raise SetupError(
                f"The labelled questions {self.labelled} are about documents that were not named: add --task.documents."
            )
        if self.documents is not None and self.cuad is not None:
            raise SetupError("Name either documents of your own or CUAD, not both.")
        if self.cuad is None:
            return self._own.read(limit)
        documents, rows = read_cuad(self.cuad, limit, categories=self.categories)
        documents = _limited(documents, limit)
        chunks = _chunks(documents)
        return Knowledge(_items(chunks), as_examples(rows, chunks, self.abstention), documents=documents)

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled questions of another file about the same documents, to score programs on.

        Raises:
            SetupError: a line is not as it should be, or is about a document that is not read; names line and field.
        """
        documents = self.read(limit).documents
        return as_examples(read_labels(path, documents, self.abstention), _chunks(documents), self.abstention)

    def synthesizer(self, resources: Resources) -> dspy.Module:
        """The module that writes questions about the documents."""
        return self.synthesis.synthesizer(resources)

    def filters(self, resources: Resources) -> list[Filter]:
        """What a written question must pass."""
        return self.synthesis.filters(resources)

    @property
    def _own(self) -> Documents:
        """The user's documents, else the sample's."""
        sample = Documents(self.sample / FOLDER, QUESTIONS, self.abstention, self.max_mib, self.synthesis)
        if self.documents is None:
            return sample
        return Documents(self.documents, self.labelled, self.abstention, self.max_mib, self.synthesis, prompts=sample)


def as_examples(
    rows: Sequence[Mapping[str, Any]], chunks: Mapping[str, Sequence[Chunk]], abstention: str
) -> list[dspy.Example]:
    """Labelled questions as the engine's examples, without those about documents that are left out.

    Args:
        rows: as `read_labels` gives them.
        chunks: of the documents that are read, by their ids.
        abstention: the answer where the documents are silent.
    """
    every = [chunk for part in chunks.values() for chunk in part]
    return [
        labelled_example(row, every if row["document"] is None else chunks[row["document"]], abstention)
        for row in rows
        if row["document"] is None or row["document"] in chunks
    ]


def labelled_example(row: Mapping[str, Any], chunks: Sequence[Chunk], abstention: str) -> dspy.Example:
    """A labelled question as the engine's example.

    Args:
        row: as `read_labels` gives it.
        chunks: those of its document, or of all documents.
        abstention: the answer where the documents are silent.
    """
    references = list(row["references"])
    passages, group = evidence(chunks, row["spans"]), row["document"]
    if group is None and row["spans"]:  # it goes with the document that answers it
        group = next(chunk.document for chunk in chunks if chunk.text == passages)
    elif group is None:  # or, where none says so, with any: all in one would be learned from, or none
        documents = sorted({chunk.document for chunk in chunks})
        group = documents[int(hash_order(row["question"]), 16) % len(documents)]
    return dspy.Example(
        id=row["id"],
        group=group,
        document=row["document"],
        question=row["question"],
        answer=references[0] if references else abstention,
        references=references,
        spans=list(row["spans"]),
        category=row["category"],
        answer_type=row["answer_type"],
        passages=passages,
        origin="gold",
    ).with_inputs(*INPUTS)


def evidence(chunks: Sequence[Chunk], spans: Sequence[str]) -> str:
    """The text of the chunk that holds most of the first span; without a span, or if none does, the opening's.

    A demonstration shows this instead of everything that a search would return, so that several fit a prompt.
    """
    if not chunks:
        return ""
    if not spans:
        return chunks[0].text
    words = set(spans[0].lower().split())
    wanted = " ".join(spans[0].split())

    def held(chunk: Chunk) -> tuple[bool, float]:
        return wanted in " ".join(chunk.text.split()), len(words & set(chunk.text.lower().split()))

    return max(chunks, key=held).text


def _limited(documents: Sequence[Document], limit: int | None) -> list[Document]:
    return list(documents) if limit is None else sorted(documents, key=lambda d: hash_order(d.id))[:limit]


def _chunks(documents: Sequence[Document]) -> dict[str, list[Chunk]]:
    return {document.id: chunk_document(document) for document in documents}


def _items(chunks: Mapping[str, Sequence[Chunk]]) -> list[Item]:
    return [Item(chunk.id, chunk.document, chunk.text) for part in chunks.values() for chunk in part]
