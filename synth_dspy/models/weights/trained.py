"""A training's folder, as far as whoever serves its model needs to know it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPEC = "spec.json"
RESULT = "result.json"
MERGED = "model.gguf"


def read_result(folder: Path) -> dict[str, Any] | None:
    """What a finished training left behind; None if it has not finished."""
    try:
        value = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
