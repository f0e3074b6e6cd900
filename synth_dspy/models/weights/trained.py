"""The parts of a training's folder that serving its model needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPEC = "spec.json"
RESULT = "result.json"
MERGED = "model.gguf"
ADAPTER = "adapter"
ADAPTER_CONFIG = "adapter_config.json"
CONCATENATED = "served"
WHOLE = "weights"
"""The model folder of a training of all weights."""
TUNED = frozenset({MERGED, ADAPTER, CONCATENATED, WHOLE})
"""What may be served of a training: the merged file, all weights, or the adapter, alone or with those before it."""


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a training; None if it has not finished."""
    try:
        value = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
