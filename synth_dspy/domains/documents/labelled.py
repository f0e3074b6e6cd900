"""A workspace's own labelled questions: JSONL, one question a line, as people write them by hand.

    {"id": "lease-01", "document": "office_lease", "question": "When does the lease end?",
     "references": ["31 March 2027"], "spans": ["expires on 31 March 2027"], "category": "Expiration Date",
     "answer_type": "date"}

`references` are the accepted answers (empty: the document is silent), `spans` the passages of the document that hold
the answer, word for word. Who only scores programs needs no more than the first four fields: the others say how the
report is divided, what search is scored by, and how training questions are written.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from synth_dspy.core.io.jsonl import FILLED, FILLED_TEXTS, TEXT, Check, one_of, read_rows

_ASKED: Final[dict[str, Check]] = {"id": FILLED, "document": FILLED, "question": FILLED, "references": FILLED_TEXTS}
_FIELDS: Final[dict[str, Check]] = {**_ASKED, "spans": FILLED_TEXTS, "category": FILLED, "answer_type": FILLED}
_OPTIONAL: Final[dict[str, Check]] = {"spans": FILLED_TEXTS, "category": TEXT, "answer_type": TEXT}


def read_questions(
    path: Path, documents: Collection[str] | None = None, *, scored: bool = False
) -> list[dict[str, Any]]:
    """Read labelled questions; blank lines are passed over, further fields are kept.

    Args:
        path: The JSONL file.
        documents: Ids of the documents there are; a question about any other is an error. None: not checked.
        scored: Programs are only scored on them, so that `spans`, `category` and `answer_type` may be missing: then
            there are no spans and no category, and the type is what the references show: "none", "yes_no" or "answer".

    Returns:
        One dict per line with `id`, `document`, `question`, `references`, `spans`, `category`, `answer_type`.

    Raises:
        SetupError: Naming the file, the line and the field that is missing or wrong.
    """

    fields = dict(_ASKED if scored else _FIELDS)
    if documents is not None:
        fields["document"] = one_of(documents, "document")
    rows = read_rows(path, fields, optional=_OPTIONAL if scored else None, unique="id")
    return [_completed(row) for row in rows] if scored else rows


def _completed(row: dict[str, Any]) -> dict[str, Any]:
    """A row that says what the others do."""
    return {
        **row,
        "spans": row.get("spans") or [],
        "category": row.get("category") or "",
        "answer_type": row.get("answer_type") or answer_type(row["references"]),
    }


def answer_type(references: Collection[str]) -> str:
    """What the accepted answers show of a question's type: "none", "yes_no" or "answer"."""
    if not references:
        return "none"
    words = {reference.strip(" .").casefold() for reference in references}
    return "yes_no" if words <= {"yes", "no"} else "answer"
