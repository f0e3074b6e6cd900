"""List prices of models in US dollars per token, from the cost map that litellm carries; no network is used.

A price that is set, `[models.options.<role>] price = [0.15, 0.60]` (US dollars per million input and output tokens),
goes before the list's: contracts differ from lists, and a server of one's own may charge nothing, `[0, 0]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError

Price = tuple[float, float]
"""US dollars for an input token and for an output token."""
_FILE = "model_prices_and_context_window_backup.json"


def list_price(model: str, *, batch: bool = False) -> Price | None:
    """The list price of a model string such as `openai/gpt-4o-mini`; None if the list does not have it.

    Args:
        model: the model string.
        batch: whether of batch inference.
    """
    facts, kind = model_facts(model), "_batches" if batch else ""
    sides = [facts.get(f"{side}_cost_per_token{kind}") for side in ("input", "output")]
    if any(not isinstance(side, int | float) for side in sides):
        return None
    return float(sides[0]), float(sides[1])  # type: ignore[arg-type]


def model_facts(model: str) -> dict[str, Any]:
    """What litellm's list says of a model string: prices, capabilities; empty if it is not in it."""
    entries = _cost_map()
    facts: dict[str, Any] = entries.get(model) or entries.get(model.partition("/")[2]) or {}
    return facts


def given_price(price: Sequence[float] | None, role: str) -> Price | None:
    """A price per million tokens, as set for a role, as the price per token.

    Raises:
        SetupError: it is not two numbers.
    """
    if price is None:
        return None
    numbers = isinstance(price, Sequence) and all(isinstance(side, int | float) and side >= 0 for side in price)
    if not numbers or len(price) != 2:
        raise SetupError(
            f"models.options.{role}.price is {price!r}: it should be two numbers, the US dollars per million input and "
            "output tokens, such as [0.15, 0.6]."
        )
    return price[0] / 1e6, price[1] / 1e6


@cache
def _cost_map() -> dict[str, Any]:
    package = find_spec("litellm")  # its import takes seconds
    if package is None or package.origin is None:
        return {}
    try:
        entries: dict[str, Any] = json.loads((Path(package.origin).parent / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries
