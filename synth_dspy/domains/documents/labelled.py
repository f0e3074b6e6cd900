"""Labelled questions about documents, as people write them by hand: JSON lines, or CSV with a header.

    {"question": "When does the lease end?", "answer": "31 March 2027", "document": "office_lease"}
    {"question": "May the tenant sublet?", "references": [], "document": "office_lease"}

`references` in place of `answer` are several accepted answers, the best first; none, the answer "-", an empty cell of a
table, or the task's words for abstaining say that the document does not answer the question. `document` is its file's
name or path, with or without the ending; a question without it is about all documents. Everything else is optional:
`id`; `spans`, passages of the document that hold the answer, word for word, which are looked up where they are not
given; `category` and `answer_type`, by which the report is divided.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Final

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, FILLED_TEXTS, ID, TABLES, TEXT, Check, placed_rows
from synth_dspy.core.io.reading import parse_json
from synth_dspy.core.knowledge import Document
from synth_dspy.core.splits import hash_order
from synth_dspy.core.text import one_line
from synth_dspy.domains.documents.chunks import sentences
from synth_dspy.domains.documents.names import Names
from synth_dspy.domains.documents.spans import excerpt
from synth_dspy.evaluation.metrics import normalize_answer
from synth_dspy.synthesis.text import tokens

NOTHING: Final = "-"
"""The answer of a question that the document does not answer."""
_SHOWN: Final = 120
"""Characters of a document that a message quotes."""
_NO_ANSWER: Final = (
    "{place}: has neither 'answer' nor 'references'; add one of them (the answer '-' where the document does not say)."
)
_OPTIONAL: Final = ("id", "document", "answer", "references", "spans", "category", "answer_type")
_ALIKE: Final = {"'": "['’‘]", "’": "['’‘]", '"': '["“”]', "“": '["“”]', "”": '["“”]', "-": "[-–—]", "–": "[-–—]"}


def read_labels(path: Path, documents: Sequence[Document], abstain: str = "") -> list[dict[str, Any]]:
    """Read labelled questions; further fields are kept.

    Args:
        path: JSON lines, or CSV with a header.
        documents: what the questions may be about.
        abstain: the answer of a question that the documents do not answer; an empty `references` says the same.

    Returns:
        Rows as `Labels.complete` gives them.

    Raises:
        SetupError: naming the file, the line, and the field that is missing or wrong; for a span that its document does
            not hold, with the nearest that it holds.
    """
    labels = Labels(documents, abstain)
    return [labels.complete(row, place) for place, row in _placed(path, labels.checks)]


def check_labels(path: Path) -> None:
    """Refuse a file that cannot be labelled questions, before the documents are read, which may take minutes.

    Raises:
        SetupError: as `read_labels`, except for what depends on the documents.
    """
    for place, row in _placed(path, dict.fromkeys(_OPTIONAL, _anything)):
        if _answers(row) is None:
            raise SetupError(_NO_ANSWER.format(place=place))


class Labels:
    """Completes labelled questions about some documents.

    Args:
        documents: what the questions may be about.
        abstain: the answer of a question that the documents do not answer.
    """

    def __init__(self, documents: Sequence[Document], abstain: str = "") -> None:
        self._texts = {document.id: document.text for document in documents}
        self._everything = "\n".join(self._texts.values())
        self._names = Names(documents)
        self._silent = normalize_answer(abstain)
        self._ids = Counter[str]()
        self.checks: dict[str, Check] = {
            "id": ID,
            "document": self._document_problem,
            "answer": TEXT,
            "references": _text_or_texts,
            "spans": _text_or_texts,
            "category": TEXT,
            "answer_type": TEXT,
        }

    def complete(self, row: Mapping[str, Any], place: str) -> dict[str, Any]:
        """A row with everything that the engine needs.

        Args:
            row: `question`, and what else the checks let pass.
            place: with which a message about it begins.

        Returns:
            The row with `id`, `document` (its id; None: all documents), `references`, `spans` (as they stand in the
            document), `category` and `answer_type`.

        Raises:
            SetupError: it has no answer, or a span that its document does not hold.
        """
        only = next(iter(self._texts)) if len(self._texts) == 1 else None
        document = self._names.find(row["document"]) if row.get("document") else only
        references = self._references(row, place)
        text = self._everything if document is None else self._texts[document]
        spans = [self._given_span(span, text, document, place) for span in _texts(row.get("spans") or [])]
        kind = row.get("answer_type") or answer_type(references)
        if not spans and kind != "yes_no":
            spans = _spans_of(references, text, row["question"])
        return {
            **row,
            "id": str(row["id"]) if row.get("id") is not None else self._new_id(document, row["question"]),
            "document": document,
            "references": references,
            "spans": spans,
            "category": row.get("category") or "",
            "answer_type": kind,
        }

    def _document_problem(self, value: Any) -> str | None:
        found = isinstance(value, str) and self._names.find(value) is not None
        return None if found else f"but {self._names.problem(value)}"

    def _new_id(self, document: str | None, question: str) -> str:
        """What names a question by what it says, wherever it stands."""
        name = "question-" + hash_order(f"{document}\n{question}")[:12]
        self._ids[name] += 1
        return name if self._ids[name] == 1 else f"{name}-{self._ids[name]}"

    def _references(self, row: Mapping[str, Any], place: str) -> list[str]:
        if (answers := _answers(row)) is None:
            raise SetupError(_NO_ANSWER.format(place=place))
        given = [one for one in _texts(answers) if one.strip() not in ("", NOTHING)]
        return [one for one in given if not (self._silent and normalize_answer(one) == self._silent)]

    def _given_span(self, span: str, text: str, document: str | None, place: str) -> str:
        if one_line(span) in one_line(text):  # perhaps cut inside a word, as marked passages are
            return span
        if (found := find_span(text, span)) is not None:
            return found
        where = "any document" if document is None else f"the document {document!r}"
        holding = (name for name, held in self._texts.items() if document is not None and find_span(held, span))
        if (other := next(holding, None)) is not None:
            hint = f"it stands in {other!r}"
        else:
            near = nearest(text, span)
            hint = f"the nearest there is {near!r}" if near else "nothing there is like it"
        raise SetupError(f"{place}: the span {one_line(span)[:_SHOWN]!r} is not in {where}; {hint}.")


def _placed(path: Path, checks: Mapping[str, Check]) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a file with their places. An empty cell in a table's column of answers says that there is none."""
    rows = placed_rows(path, {"question": FILLED}, optional=checks, unique="id")
    if path.suffix.lower() not in TABLES or all(_answers(row) is None for _, row in rows):
        return rows
    return [(place, row if _answers(row) is not None else {**row, "references": []}) for place, row in rows]


def _answers(row: Mapping[str, Any]) -> Any:
    return row.get("references", row.get("answer"))


def answer_type(references: Collection[str]) -> str:
    """What the accepted answers show of a question's type: "none", "yes_no" or "answer"."""
    if not references:
        return "none"
    words = {reference.strip(" .").casefold() for reference in references}
    return "yes_no" if words <= {"yes", "no"} else "answer"


def find_span(text: str, wording: str, question: str = "") -> str | None:
    """A wording as it stands in a text, with single spaces; None where it does not.

    Case, the kind of quotation marks and dashes, and white space may differ. Where it stands in several places, the
    sentence that shares most words with the question, so that search is scored by the right one.

    Args:
        text: of a document.
        wording: an answer, or a passage.
        question: what it answers.
    """
    pattern = r"\s+".join("".join(_ALIKE.get(c) or re.escape(c) for c in word) for word in wording.split())
    if not pattern:
        return None
    matches = list(re.finditer(rf"(?<!\w){pattern}(?!\w)", text, re.I))
    if len(matches) < 2 or not question:
        return one_line(matches[0].group()) if matches else None
    asked = set(tokens(question))

    def shared(match: re.Match[str]) -> tuple[int, int]:
        start, end = match.span()
        begins = max(text.rfind("\n", 0, start), text.rfind(". ", 0, start)) + 1
        ends = min((at for at in (text.find("\n", end), text.find(". ", end)) if at >= 0), default=len(text))
        near = text[max(0, start - 200) : end + 200]  # such as a table's head
        return len(asked & set(tokens(text[begins:ends]))), len(asked & set(tokens(near)))

    best = max(matches, key=shared)
    return excerpt(text, *best.span())


def holds(text: str, answers: Collection[str], abstain: str = "") -> bool:
    """Whether a text holds one of the accepted answers, or none of them has to be there: yes, no, or no answer."""
    said = [answer for answer in answers if normalize_answer(answer) != normalize_answer(abstain)]
    return answer_type(said) != "answer" or any(find_span(text, answer) is not None for answer in said)


def nearest(text: str, wording: str) -> str:
    """The sentence of a text that is most like a wording, up to `_SHOWN` characters of it; "" where none is."""
    wanted = set(tokens(wording))
    split = [sentence for line in text.splitlines() for sentence in sentences(line)]
    near = sorted(split, key=lambda sentence: -len(wanted & set(tokens(sentence))))[:5]
    near = [one_line(sentence) for sentence in near if wanted & set(tokens(sentence))]
    if not near:
        return ""
    best = max(near, key=lambda sentence: SequenceMatcher(None, wording.lower(), sentence.lower()).ratio())
    at = SequenceMatcher(None, best.lower(), wording.lower(), autojunk=False).find_longest_match().a
    start = max(0, min(at - _SHOWN // 4, len(best) - _SHOWN))
    cut = best[start : start + _SHOWN]
    return f"{'…' if start else ''}{cut}{'…' if start + _SHOWN < len(best) else ''}"


def _spans_of(references: Iterable[str], text: str, question: str) -> list[str]:
    """The accepted answer that stands in a text, the longest of them; none where the text words it otherwise."""
    found = (find_span(text, reference, question) for reference in sorted(references, key=len, reverse=True))
    return [span for span in [next(filter(None, found), None)] if span]


def _texts(value: Any) -> list[str]:
    """A text, or a list of them that a CSV cell holds as JSON, as a list."""
    if isinstance(value, str):
        with suppress(ValueError):
            parsed = parse_json(value) if value.lstrip().startswith("[") else None
            if isinstance(parsed, list) and all(isinstance(one, str) for one in parsed):
                return parsed
        return [value]
    return list(value)


def _anything(value: Any) -> None:
    return None


def _text_or_texts(value: Any) -> str | None:
    return None if isinstance(value, str) else FILLED_TEXTS(value)
