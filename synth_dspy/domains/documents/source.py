"""Documents as a task's source, from a folder or from CUAD, with labelled questions about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document, Item, Knowledge, Skipped
from synth_dspy.core.protocols import Filter
from synth_dspy.core.resources import Resources
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.documents.chunks import Chunk, chunk_document
from synth_dspy.domains.documents.contract_synthesis import DOCUMENTS
from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.domains.documents.documents import read_folder
from synth_dspy.domains.documents.labelled import read_labels, read_questions
from synth_dspy.domains.documents.reader_process import Limits

FOLDER = "documents"
QUESTIONS = "questions.jsonl"
INPUTS = ("question", "document")


@dataclass(frozen=True)
class Corpus:
    """Documents and, if there are any, labelled questions about them.

    Attributes:
        sample: a folder with `documents/` and `questions.jsonl`, read if nothing else is named; its questions are the
            teacher's demonstrations for documents without questions of their own.
        abstention: the answer to a question that the document does not answer.
        documents: a folder of the user's own documents, instead of the sample.
        labelled: labelled questions about those documents (JSONL).
        cuad: CUAD, as a folder of contracts or as the publisher's CUAD_v1.json, instead of either.
        categories: CUAD categories to ask about; all if empty.
        max_mib: larger files of the user's own documents are skipped.
    """

    sample: Path
    abstention: str
    documents: Path | None = None
    labelled: Path | None = None
    cuad: Path | None = None
    categories: tuple[str, ...] = ()
    max_mib: int = 20

    def read(self, limit: int | None = None) -> Knowledge:
        """Read and chunk the documents; `limit` takes that many, in the order of their names' hashes.

        Raises:
            SetupError: nothing can be read, or the labelled questions are malformed.
        """
        if self.labelled is not None and self.documents is None:
            raise SetupError(
                f"The labelled questions {self.labelled} are about documents that were not named: add --task.documents."
            )
        if self.documents is not None and self.cuad is not None:
            raise SetupError("Name either documents of your own or CUAD, not both.")
        skipped: Sequence[Skipped] = ()
        rows: Sequence[Mapping[str, Any]] = ()
        if self.cuad is not None:
            documents, rows = read_cuad(self.cuad, limit, categories=self.categories)
        elif self.documents is not None:
            documents, skipped = self._read_own(self.documents)
            if self.labelled is not None:
                rows = read_questions(self.labelled, {document.id for document in documents})
        else:
            documents, skipped = read_folder(self.sample / FOLDER)
            rows = read_questions(self.sample / QUESTIONS, {document.id for document in documents})
        if limit is not None:
            documents = sorted(documents, key=lambda document: hash_order(document.id))[:limit]
        kept = {document.id for document in documents}
        chunks = {document.id: chunk_document(document) for document in documents}
        labelled = [self._example(row, chunks[row["document"]]) for row in rows if row["document"] in kept]
        return Knowledge(
            items=[_item(chunk) for document in documents for chunk in chunks[document.id]],
            labelled=labelled,
            prompts=() if labelled else self._sample_questions(),
            documents=documents,
            skipped=skipped,
        )

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled questions of another file about the same documents, to score programs on.

        Raises:
            SetupError: a line is malformed, or about an unknown document; names line and field.
        """
        documents = {document.id: document for document in self.read(limit).documents}
        rows = read_questions(path, documents.keys(), scored=True)
        chunks = {name: chunk_document(documents[name]) for name in {row["document"] for row in rows}}
        return [self._example(row, chunks[row["document"]]) for row in rows]

    def _read_own(self, folder: Path) -> tuple[list[Document], list[Skipped]]:
        if self.max_mib < 1:
            raise SetupError(f"--task.max-mib is {self.max_mib}, which excludes every document: make it 1 or more.")
        return read_folder(folder, Limits(file_bytes=self.max_mib * 2**20))

    def _sample_questions(self) -> list[dspy.Example]:
        documents, _ = read_folder(self.sample / FOLDER)
        chunks = {document.id: chunk_document(document) for document in documents}
        rows = read_questions(self.sample / QUESTIONS, chunks.keys())
        return [self._example(row, chunks[row["document"]]) for row in rows]

    def _example(self, row: Mapping[str, Any], chunks: Sequence[Chunk]) -> dspy.Example:
        return labelled_example(row, chunks, self.abstention)


@dataclass(frozen=True)
class Documents:
    """A folder of documents of any kind and, if there are any, labelled questions about them.

    Attributes:
        folder: text, Markdown, HTML, PDF and DOCX are read.
        labelled: labelled questions, JSON lines or CSV: `question`, `answer` (or `references`) and, if it is about one
            document, `document`. A relative path starts in the folder's parent.
        abstain: the answer to a question that the documents do not answer.
        max_mib: larger files are skipped.
    """

    folder: Path
    labelled: Path | str | None = None
    abstain: str = ""
    max_mib: int = 20

    def read(self, limit: int | None = None) -> Knowledge:
        """Read and chunk the documents; `limit` takes that many, in the order of their names' hashes.

        Raises:
            SetupError: nothing can be read, or the labelled questions are malformed.
        """
        every, skipped = read_folder(Path(self.folder).expanduser(), Limits(file_bytes=self.max_mib * 2**20))
        documents = every if limit is None else sorted(every, key=lambda document: hash_order(document.id))[:limit]
        chunks = {document.id: chunk_document(document) for document in documents}
        labelled = []
        if self.labelled is not None:
            labels = Path(self.folder).expanduser().resolve().parent / Path(self.labelled).expanduser()
            labelled = self._examples(labels, every, chunks)
        return Knowledge(
            items=[_item(chunk) for document in documents for chunk in chunks[document.id]],
            labelled=labelled,
            documents=documents,
            skipped=skipped,
        )

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled questions of another file about the same documents, to score programs on."""
        documents = self.read(limit).documents
        return self._examples(path, documents, {document.id: chunk_document(document) for document in documents})

    def synthesizer(self, resources: Resources) -> dspy.Module:
        """The module that writes questions about the documents."""
        return DOCUMENTS.synthesizer(resources)

    def filters(self, resources: Resources) -> list[Filter]:
        """The filters that a written question must pass."""
        return DOCUMENTS.filters(resources)

    def _examples(
        self, path: Path, every: Sequence[Document], chunks: Mapping[str, Sequence[Chunk]]
    ) -> list[dspy.Example]:
        """The questions of a file, without those about documents that the limit excludes."""
        rows = read_labels(path, {document.id: document.text for document in every}, self.abstain)
        all_chunks = [chunk for part in chunks.values() for chunk in part]
        return [
            labelled_example(row, all_chunks if row["document"] is None else chunks[row["document"]], self.abstain)
            for row in rows
            if row["document"] is None or row["document"] in chunks
        ]


def labelled_example(row: Mapping[str, Any], chunks: Sequence[Chunk], abstention: str) -> dspy.Example:
    """A labelled question as the engine's example.

    Args:
        row: a row from `read_questions`.
        chunks: those of its document, or of all documents.
        abstention: the answer if the documents have none.
    """
    references = list(row["references"])
    passages, group = evidence(chunks, row["spans"]), row["document"]
    if group is None and row["spans"]:  # its group is the document that answers it
        group = next(chunk.document for chunk in chunks if chunk.text == passages)
    elif group is None:  # without one, any: in a single group all would be in the same split
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
    """The text of the chunk that contains most of the first span; the first chunk without a span.

    A demonstration shows this instead of all passages of a search, so that several demonstrations fit into a prompt.
    """
    if not chunks:
        return ""
    if not spans:
        return chunks[0].text
    words = set(spans[0].lower().split())
    wanted = " ".join(spans[0].split())

    def overlap(chunk: Chunk) -> tuple[bool, float]:
        return wanted in " ".join(chunk.text.split()), len(words & set(chunk.text.lower().split()))

    return max(chunks, key=overlap).text


def _item(chunk: Chunk) -> Item:
    return Item(chunk.id, chunk.document, chunk.text)
