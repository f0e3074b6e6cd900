"""Proposed held-out questions: a teacher writes them, and a person accepts, edits or rejects each before it counts.

They lie in one file of JSON lines in the folder of documents, so that they go where the documents go, and can be
reviewed in a terminal (`python -m synth_dspy.label`), in a notebook (`proposed_questions`) or in an editor:

    {"status": "proposed", "question": "...", "answer": "...", "document": "office_lease", "passage": "..."}
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.io.jsonl import FILLED, ID, TEXT, TEXTS, Check, placed_rows
from synth_dspy.core.knowledge import Document, Item
from synth_dspy.core.protocols import Filter
from synth_dspy.core.splits import hash_order
from synth_dspy.core.text import one_line
from synth_dspy.domains.documents.documents import PROPOSALS
from synth_dspy.domains.documents.labelled import Labels, holds, nearest
from synth_dspy.domains.documents.names import Names
from synth_dspy.domains.documents.statement_grammar import plain
from synth_dspy.synthesis.pipeline import Synthesis, synthesise

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.core.ledger import Ledger

PROPOSED, ACCEPTED, EDITED, REJECTED = "proposed", "accepted", "edited", "rejected"
STATUSES: Final = (PROPOSED, ACCEPTED, EDITED, REJECTED)
REVIEWED: Final = (ACCEPTED, EDITED)
"""A person has read these, and lets programs be scored on them."""
ROUNDS: Final = (3, 6, 12)
"""Candidates that are written for every question that is wanted, one bound after the other, until enough are kept."""


def _status(value: Any) -> str | None:
    return None if value in STATUSES else f"use one of {', '.join(STATUSES)}"


_FIELDS: Final[dict[str, Check]] = {"question": FILLED, "status": _status}
_OPTIONAL: Final[dict[str, Check]] = {"answer": TEXT, "references": TEXTS, "document": TEXT, "passage": TEXT, "id": ID}


def propose(
    items: Sequence[Item],
    synthesizer: Callable[[], dspy.Module],
    filters: Callable[[], Sequence[Filter]],
    *,
    wanted: int,
    executor: Executor,
    ledger: Ledger | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Synthesis:
    """Write questions about held-out documents, for a person to review.

    Args:
        items: chunks of the held-out documents alone.
        synthesizer: makes the module that writes candidates, with the teacher set on it.
        filters: makes the filters. Both are made anew for each round: some filters remember what they have kept.
        wanted: stop once so many are kept.
        executor: runs the calls.
        ledger: keeps the verdicts, if given; a call that it has answered is not made again in a later round.
        progress: called with (units written about so far, units in all) of a round.

    Returns:
        The last round, which holds what earlier ones wrote.
    """
    units = 0
    for candidates in ROUNDS:
        limit = candidates * wanted
        synthesis = synthesise(
            items, synthesizer(), filters(), executor=executor, ledger=ledger, limit=limit, progress=progress
        )
        if len(synthesis.kept) >= wanted or synthesis.items == units:  # enough, or nothing more to write about
            break
        units = synthesis.items
    return synthesis


def proposals_file(folder: Path) -> Path:
    """Where the proposed questions about a folder's documents lie; about those of a single file, beside it."""
    return (folder if folder.is_dir() else folder.parent) / PROPOSALS


def proposed_questions(folder: Path | str) -> ProposedQuestions:
    """The proposed questions about a folder's documents; a table in a notebook.

    Raises:
        SetupError: there are none, or a line is not as it should be; names the line and the field.
    """
    path = Path(folder).expanduser()
    if not path.exists():
        raise SetupError(f"{path} does not exist: name the folder of documents whose questions you want to review.")
    return ProposedQuestions.read(path if path.suffix == ".jsonl" else proposals_file(path))


class ProposedQuestions:
    """Proposed questions, with what a person has decided about each. `save` writes the decisions.

    A question is named by its place (0, 1, ...) or its id.

    Args:
        path: the file.
        rows: its lines.
        places: where each stands, for messages.
    """

    def __init__(self, path: Path, rows: Sequence[dict[str, Any]], places: Sequence[str] = ()) -> None:
        self.path = path
        self._places = {row["id"]: place for row, place in zip(rows, places, strict=False)}
        self.rows = list(rows)
        self._read = _content(path)

    @classmethod
    def read(cls, path: Path) -> ProposedQuestions:
        """Those of a file.

        Raises:
            SetupError: as `proposed_questions`.
        """
        if not path.is_file():
            raise SetupError(
                f"There are no proposed questions in {path.parent}: {command('compile doc_qa')} --documents "
                f"{path.parent} proposes some."
            )
        placed = placed_rows(path, _FIELDS, optional=_OPTIONAL, unique="id")
        rows = [{**row, "id": str(row.get("id") or _id(row))} for _, row in placed]
        return cls(path, rows, [place for place, _ in placed])

    @classmethod
    def of(cls, path: Path, examples: Sequence[dspy.Example], teacher: str) -> ProposedQuestions:
        """New ones, of a teacher's examples."""
        return cls(
            path,
            [
                {
                    "status": PROPOSED,
                    "question": example.question,
                    "answer": example.answer,
                    "document": example.group,
                    "passage": str((example.get("spans") or [""])[0]),
                    "category": example.get("category") or "",
                    "answer_type": example.get("answer_type") or "",
                    "id": example.id,
                    "teacher": teacher,
                }
                for example in examples
            ],
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, name: int | str) -> dict[str, Any]:
        """A question.

        Raises:
            SetupError: there is none of that place or id.
        """
        found = self.rows[name : name + 1] if isinstance(name, int) and name >= 0 else []
        found = found or [row for row in self.rows if row["id"] == name]
        if not found:
            raise SetupError(f"There is no question {name!r} in {self.path}: name its place, 0 to {len(self) - 1}.")
        return found[0]

    @property
    def counts(self) -> Counter[str]:
        """How many have each status."""
        return Counter(str(row["status"]) for row in self.rows)

    @property
    def documents(self) -> frozenset[str]:
        """What they are about: these documents are held out."""
        return frozenset(str(row["document"]) for row in self.rows if row.get("document"))

    def accept(self, *names: int | str) -> None:
        """Let programs be scored on these."""
        for name in names:
            self[name]["status"] = ACCEPTED

    def reject(self, *names: int | str) -> None:
        """Leave these out."""
        for name in names:
            self[name]["status"] = REJECTED

    def edit(self, name: int | str, *, question: str | None = None, answer: str | None = None) -> None:
        """Accept one in other words. An empty answer says that the document does not answer it.

        Raises:
            SetupError: the question is empty.
        """
        row = self[name]
        if question is not None and not question.strip():
            raise SetupError("A question cannot be empty: reject it, or write another.")
        row["question"] = one_line(question) if question is not None else row["question"]
        if answer is not None and one_line(answer) != row.get("answer"):
            row["answer"] = one_line(answer)
            for name in ("references", "answer_type", "spans"):  # of the other answer
                row.pop(name, None)
        row["status"] = EDITED

    def add(self, question: str, answer: str, document: str) -> None:
        """Add one of your own about a document that is held out; an empty answer says that it does not answer it.

        Raises:
            SetupError: the question is empty, or the document is not held out: it is learned from.
        """
        if not question.strip():
            raise SetupError("A question cannot be empty: write what somebody would ask.")
        if document not in self.documents:
            held = ", ".join(sorted(self.documents))
            raise SetupError(f"The document {document!r} is not held out; questions may be about {held}.")
        question, answer = one_line(question), one_line(answer)
        row = {"status": ACCEPTED, "question": question, "answer": answer, "document": document, "passage": ""}
        row["id"] = _id(row)
        if any(other["id"] == row["id"] for other in self.rows):
            raise SetupError(f"The question {question!r} is there already: edit that one.")
        self.rows.append(row)

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            SetupError: it cannot be written, or somebody has changed it since it was read.
        """
        if _content(self.path) != self._read:
            raise SetupError(f"{self.path} was changed since it was read, and is left as it is: read it again.")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        try:
            write_whole(self.path, text)
        except OSError as error:
            raise SetupError(
                f"The questions cannot be written to {self.path} ({error.strerror or error}): copy the documents to a "
                "folder that you may write in, and name that."
            ) from error
        self._read = text

    def about(self, documents: Sequence[Document]) -> ProposedQuestions:
        """These questions, each document by its id; one that was proposed about several files with one text, once."""
        names, repeated = Names(documents), {document.id for document in documents if document.also}
        rows = [{**row, "document": names.find(str(row.get("document"))) or row.get("document")} for row in self.rows]

        def key(row: Mapping[str, Any]) -> Any:
            return (row["document"], row["question"]) if row["document"] in repeated else row["id"]

        first: dict[Any, str] = {}
        for row in sorted(rows, key=lambda row: row["status"] not in REVIEWED):
            first.setdefault(key(row), row["id"])
        other = ProposedQuestions(self.path, [row for row in rows if first[key(row)] == row["id"]])
        other._places = self._places
        return other

    def labels(
        self, documents: Sequence[Document], abstain: str, statuses: Sequence[str] = REVIEWED
    ) -> list[dict[str, Any]]:
        """The questions of these statuses about these documents, as `read_labels` gives rows.

        Raises:
            SetupError: one has no answer.
        """
        known, labels = {document.id for document in documents}, Labels(documents, abstain)
        return [
            labels.complete(row, f"{self.path}, question {row['id']}")
            for row in self.rows
            if row["status"] in statuses and row.get("document") in known
        ]

    def not_held(self, documents: Sequence[Document], abstain: str) -> list[str]:
        """Sentences about reviewed answers that their documents do not hold, word for word, with the nearest there."""
        texts = {document.id: document.text for document in documents}
        sentences = []
        for row in self.rows:
            text, answers = texts.get(str(row.get("document"))), _answers(row)
            if (
                row["status"] in REVIEWED
                and text is not None
                and not (holds(text, answers, abstain) or holds(plain(text), answers, abstain))
            ):
                near = nearest(text, answers[0])
                hint = f"the nearest there is {near!r}" if near else "nothing there is like it"
                place = self._places.get(row["id"], f"{self.path}, question {row['id']}")
                sentences.append(f"{place}: the answer {answers[0]!r} is not in {row['document']!r}; {hint}.")
        return sentences

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame`, one row a question."""
        import pandas  # type: ignore[import-untyped]

        columns = ["status", "question", "answer", "document", "passage", "id"]
        return pandas.DataFrame([{name: row.get(name, "") for name in columns} for row in self.rows], columns=columns)

    def _repr_html_(self) -> str:
        counted = ", ".join(f"{self.counts[status]} {status}" for status in STATUSES)
        table = self.to_pandas().drop(columns="id").to_html(border=0)
        return f"<p>{html.escape(str(self.path))}: {counted}</p>{table}"


def _answers(row: Mapping[str, Any]) -> list[str]:
    return [text for text in row.get("references") or [row.get("answer") or ""] if text.strip()]


def _id(row: Mapping[str, Any]) -> str:
    return "question-" + hash_order(f"{row.get('document')}\n{row['question']}")[:12]


def _content(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        return None
