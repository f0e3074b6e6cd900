"""A corpus as a task's source: documents from a folder or from CUAD, and the labelled questions about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document, Item, Knowledge, Skipped
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.documents.chunks import Chunk, chunk_document
from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.domains.documents.documents import read_folder
from synth_dspy.domains.documents.labelled import read_questions
from synth_dspy.domains.documents.reader_process import Limits

DOCUMENTS = "documents"
QUESTIONS = "questions.jsonl"
INPUTS = ("question", "document")


@dataclass(frozen=True)
class Corpus:
    """Documents and, where there are some, labelled questions about them.

    Attributes:
        sample: a folder with `documents/` and `questions.jsonl`; what is read when nothing else is named, and whose
            questions show the teacher how to write where the documents have none of their own.
        abstention: the answer to a question that the document does not answer.
        documents: a folder of the user's own documents, instead of the sample.
        labelled: labelled questions about those documents (JSONL).
        cuad: CUAD, as a folder of contracts or as the publisher's CUAD_v1.json, instead of either.
        categories: of CUAD's, those that are asked about; all if there are none.
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
        skipped: Sequence[Skipped] = ()
        rows: Sequence[Mapping[str, Any]] = ()
        if self.cuad is not None:
            documents, rows = read_cuad(self.cuad, limit, categories=self.categories)
        elif self.documents is not None:
            documents, skipped = self._read_own(self.documents)
            if self.labelled is not None:
                rows = read_questions(self.labelled, {document.id for document in documents})
        else:
            documents, skipped = read_folder(self.sample / DOCUMENTS)
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
            SetupError: a line is not as it should be, or is about a document that is not read; names line and field.
        """
        documents = {document.id: document for document in self.read(limit).documents}
        rows = read_questions(path, documents.keys(), scored=True)
        chunks = {name: chunk_document(documents[name]) for name in {row["document"] for row in rows}}
        return [self._example(row, chunks[row["document"]]) for row in rows]

    def _read_own(self, folder: Path) -> tuple[list[Document], list[Skipped]]:
        if self.max_mib < 1:
            raise SetupError(f"--task.max-mib is {self.max_mib}, and no document is that small: make it 1 or more.")
        return read_folder(folder, Limits(file_bytes=self.max_mib * 2**20))

    def _sample_questions(self) -> list[dspy.Example]:
        documents, _ = read_folder(self.sample / DOCUMENTS)
        chunks = {document.id: chunk_document(document) for document in documents}
        rows = read_questions(self.sample / QUESTIONS, chunks.keys())
        return [self._example(row, chunks[row["document"]]) for row in rows]

    def _example(self, row: Mapping[str, Any], chunks: Sequence[Chunk]) -> dspy.Example:
        references = list(row["references"])
        return dspy.Example(
            id=row["id"],
            group=row["document"],
            document=row["document"],
            question=row["question"],
            answer=references[0] if references else self.abstention,
            references=references,
            spans=list(row["spans"]),
            category=row["category"],
            answer_type=row["answer_type"],
            passages=evidence(chunks, row["spans"]),
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


def _item(chunk: Chunk) -> Item:
    return Item(id=chunk.id, group=chunk.document, text=chunk.text, meta={"position": chunk.position})
