"""Reads labelled questions: JSONL, one question per line, as people write them by hand.

    {"id": "lease-01", "document": "office_lease", "question": "When does the lease end?",
     "references": ["31 March 2027"], "spans": ["expires on 31 March 2027"], "category": "Expiration Date",
     "answer_type": "date"}

`references` are the accepted answers (empty: the document has none), `spans` the passages of the document that contain
the answer, word for word. Scoring needs only the first four fields; the others are for the report's breakdown, the
scores of retrieval, and the synthesis of training questions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, FILLED_TEXTS, TEXT, TEXTS, Check, one_of, read_rows, read_table
from synth_dspy.core.io.reading import parse_json
from synth_dspy.core.splits import hash_order
from synth_dspy.core.text import one_line
from synth_dspy.evaluation.metrics import normalize_answer

_REQUIRED: Final[dict[str, Check]] = {"id": FILLED, "document": FILLED, "question": FILLED, "references": FILLED_TEXTS}
_FIELDS: Final[dict[str, Check]] = {**_REQUIRED, "spans": FILLED_TEXTS, "category": FILLED, "answer_type": FILLED}
_OPTIONAL: Final[dict[str, Check]] = {"spans": FILLED_TEXTS, "category": TEXT, "answer_type": TEXT}


def read_questions(
    path: Path, documents: Collection[str] | None = None, *, scored: bool = False
) -> list[dict[str, Any]]:
    """Read labelled questions; blank lines are skipped, further fields are kept.

    Args:
        path: The JSONL file.
        documents: Ids of the documents; a question about any other is an error. None: not checked.
        scored: The questions are for scoring only, so `spans`, `category` and `answer_type` may be missing; the type
            is then inferred from the references: "none", "yes_no" or "answer".

    Returns:
        One dict per line with `id`, `document`, `question`, `references`, `spans`, `category`, `answer_type`.

    Raises:
        SetupError: Naming the file, the line and the field that is missing or wrong.
    """

    fields = dict(_REQUIRED if scored else _FIELDS)
    if documents is not None:
        fields["document"] = one_of(documents, "document")
    rows = read_rows(path, fields, optional=_OPTIONAL if scored else None, unique="id")
    return [_completed(row) for row in rows] if scored else rows


def read_labels(path: Path, documents: Mapping[str, str], abstain: str = "") -> list[dict[str, Any]]:
    """Read labelled questions with the fewest fields: `question`, `answer` (or `references`), perhaps `document`.

    Args:
        path: JSON lines, or CSV with a header.
        documents: the documents' texts by id; a question about any other is an error.
        abstain: the answer to a question that the documents do not answer, like an empty `references`.

    Returns:
        Rows as from `read_questions`; `document` is None for a question about all documents. The default spans of a row
        are its answers, where the document contains them.

    Raises:
        SetupError: naming the file, the line and the field that is missing or wrong.
    """
    optional = {
        "document": one_of(documents.keys(), "document"),
        "answer": TEXT,
        "references": _text_or_texts,
        "spans": _text_or_texts,
    }
    rows = []
    for number, row in enumerate(read_table(path, {"question": FILLED}, optional=optional), start=1):
        answers = row.get("references", row.get("answer"))
        if answers is None:
            raise SetupError(f"{path}, row {number}: has neither 'answer' nor 'references'; add one of them.")
        silent = normalize_answer(abstain)
        references = [
            one for one in _texts(answers) if one.strip() and not (silent and normalize_answer(one) == silent)
        ]
        document = row.get("document") or (next(iter(documents)) if len(documents) == 1 else None)
        text = one_line("\n".join(documents.values()) if document is None else documents[document])
        spans = _texts(row.get("spans") or []) or [one for one in references if one_line(one) in text]
        digest = hash_order(f"{document}\n{row['question']}")[:12]
        named = {"id": str(row.get("id") or f"question-{digest}"), "document": document}
        rows.append(_completed({**row, **named, "references": references, "spans": spans}))
    return rows


def _texts(value: Any) -> list[str]:
    """A list of texts from a text, a list, or a list as JSON in a CSV cell."""
    if isinstance(value, str):
        with suppress(ValueError):
            parsed = parse_json(value) if value.lstrip().startswith("[") else None
            if isinstance(parsed, list) and all(isinstance(one, str) for one in parsed):
                return parsed
        return [value]
    return list(value)


def _text_or_texts(value: Any) -> str | None:
    return None if isinstance(value, str) else TEXTS(value)


def _completed(row: dict[str, Any]) -> dict[str, Any]:
    """A row with its optional fields filled in."""
    return {
        **row,
        "spans": row.get("spans") or [],
        "category": row.get("category") or "",
        "answer_type": row.get("answer_type") or answer_type(row["references"]),
    }


def answer_type(references: Collection[str]) -> str:
    """A question's type by its accepted answers: "none", "yes_no" or "answer"."""
    if not references:
        return "none"
    words = {reference.strip(" .").casefold() for reference in references}
    return "yes_no" if words <= {"yes", "no"} else "answer"
