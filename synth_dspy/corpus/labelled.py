"""A workspace's own labelled questions: JSONL, one question a line, as people write them by hand.

    {"id": "lease-01", "document": "office_lease", "question": "When does the lease end?",
     "references": ["31 March 2027"], "spans": ["expires on 31 March 2027"], "category": "Expiration Date",
     "answer_type": "date"}

`references` are the accepted answers (empty: the document is silent), `spans` the passages of the document that hold
the answer, word for word.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from synth_dspy.jsonl import FILLED, FILLED_TEXTS, Check, read_rows

_FIELDS: Final[dict[str, Check]] = {
    "id": FILLED,
    "document": FILLED,
    "question": FILLED,
    "references": FILLED_TEXTS,
    "spans": FILLED_TEXTS,
    "category": FILLED,
    "answer_type": FILLED,
}


def read_questions(path: Path, documents: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Read labelled questions; blank lines are passed over, further fields are kept.

    Args:
        path: The JSONL file.
        documents: Ids of the documents there are; a question about any other is an error. None: not checked.

    Returns:
        One dict per line with `id`, `document`, `question`, `references`, `spans`, `category`, `answer_type`.

    Raises:
        SetupError: Naming the file, the line and the field that is missing or wrong.
    """
    if documents is None:
        return read_rows(path, _FIELDS, unique="id")

    def known(value: Any) -> str | None:
        if value in documents:
            return None
        return f"which is no document that was read; use one of {len(documents)} ids such as {', '.join(examples)}"

    examples = sorted(documents)[:5]
    return read_rows(path, {**_FIELDS, "document": lambda value: FILLED(value) or known(value)}, unique="id")
