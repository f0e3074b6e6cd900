"""A workspace's own labelled questions: JSONL, one question a line, as people write them by hand.

    {"id": "lease-01", "document": "office_lease", "question": "When does the lease end?",
     "references": ["31 March 2027"], "spans": ["expires on 31 March 2027"], "category": "Expiration Date",
     "answer_type": "date"}

`references` are the accepted answers (empty: the document is silent), `spans` the passages of the document that hold
the answer, word for word.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from synth_dspy.errors import SetupError

_FIELDS: Final[dict[str, type[str] | type[list[Any]]]] = {
    "id": str,
    "document": str,
    "question": str,
    "references": list,
    "spans": list,
    "category": str,
    "answer_type": str,
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
    try:
        # splitlines() would also cut at U+2028 inside a string
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise SetupError(
            f"Tried to read labelled questions from {path}: {error.strerror or error}; check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise SetupError(
            f"Tried to read labelled questions from {path}, which is not UTF-8; save it as UTF-8."
        ) from error
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line, f"{path}, line {number}")
            if (first := seen.setdefault(row["id"], number)) != number:
                raise SetupError(f"{path}, line {number}: id {row['id']!r} is line {first}'s too; give it its own.")
            if documents is not None and row["document"] not in documents:
                known = ", ".join(sorted(documents)[:5])
                raise SetupError(
                    f"{path}, line {number}: field 'document' is {row['document']!r}, which is no document that was "
                    f"read; use one of {len(documents)} ids such as {known}."
                )
            rows.append(row)
    if not rows:
        raise SetupError(f"Tried to read labelled questions from {path}, which holds none; write one a line.")
    return rows


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise SetupError(f"{where}: is not valid JSON ({error.msg} at column {error.colno}); mend the line.") from error
    if not isinstance(row, dict):
        raise SetupError(f"{where}: is not a JSON object; write {{...}} with the fields {', '.join(_FIELDS)}.")
    for field, kind in _FIELDS.items():
        if field not in row:
            raise SetupError(f"{where}: field {field!r} is missing; add it (fields: {', '.join(_FIELDS)}).")
        value = row[field]
        if not isinstance(value, kind) or (isinstance(value, str) and not value.strip()):
            wanted = "a list of strings" if kind is list else "a string that is not empty"
            raise SetupError(f"{where}: field {field!r} is {json.dumps(value)[:60]}; make it {wanted}.")
        if kind is list and not all(isinstance(item, str) and item.strip() for item in value):
            raise SetupError(f"{where}: field {field!r} must hold only strings that are not empty; mend the line.")
    return row
