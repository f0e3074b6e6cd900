"""Converts results to JSON of limited size and depth."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Mapping
from datetime import date, time
from typing import Any

DEEPEST = 100
"""Most levels of nested lists and objects in a result."""
SHOWN = 10_000
"""Most characters of output, of a message, and of a `repr` in place of a result."""
_LARGEST = 1_000_000  # characters of a result as JSON


class TooDeepError(ValueError):
    """A value has more than `DEEPEST` levels."""


def result_of(value: Any) -> Any:
    """A result as JSON; its `repr` if it is too large or too deep."""
    result = bounded(value)
    return result if len(json.dumps(result)) <= _LARGEST else repr(result)[:SHOWN]


def bounded(value: Any) -> Any:
    """A value as JSON; its `repr` if it is too deep."""
    try:
        return jsonable(value)
    except TooDeepError:
        return _represented(value)


def jsonable(value: Any, levels: int = DEEPEST) -> Any:
    """A value as JSON: enums by value, dates in ISO format, sets sorted, models and data classes as objects.

    Other values become their `repr`, without addresses, which differ from run to run.

    Raises:
        TooDeepError: it has more than this many levels.
    """
    if isinstance(value, enum.Enum):
        return jsonable(value.value, levels)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if levels < 1:
        raise TooDeepError
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name), levels - 1) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump") and not isinstance(value, type):
        return jsonable(value.model_dump(), levels)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return jsonable(value._asdict(), levels)
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else str(jsonable(key, levels - 1)): jsonable(each, levels - 1)
            for key, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [jsonable(each, levels - 1) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted((jsonable(each, levels - 1) for each in value), key=json.dumps)
    return _represented(value)


def is_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value has more than this many levels, determined without recursion."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            inner
            for each in layer
            if isinstance(each, (list, dict))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not layer:
            return False
    return True


def _represented(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = f"<{type(value).__name__} of more than {DEEPEST} levels>"
    return re.sub(r" at 0x[0-9a-f]+", "", text)[:SHOWN]
