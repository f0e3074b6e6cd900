"""What a report says of a finished training: its method and settings, its rows, its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

Figures = Mapping[str, float | None]

_LOSS = ("first", "last")
_PARITY = ("n", "held_out", "tokens", "agreed", "share", "difference")


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """A finished training; None where something is not known.

    Attributes:
        method: `sft`, `dpo`, ...
        learning_rate: the peak of its schedule.
        rank: of the adapter.
        rows: those that a recipe counted, or without a recipe those that were trained on.
        by_origin: a recipe's rows by origin, before those that are too long are left out; None without a recipe.
        left_out: rows that were too long.
        trained_rows: those that its time was enough for.
        dropped: candidates for rows that were dropped, by reason.
        adapters: folders or names of the adapters that it was trained on top of.
        dev_loss: loss on the development rows.
        tokens: trained on, in all.
        epochs: passes over the rows.
        steps: of the optimizer.
        stopped: `early`, by the loss on the development rows, or `finished`.
        loss: of the `first` and the `last` tenth of the steps.
        parity: how far the served model agrees with the trained one, see `training.parity`.
        seconds: that the training took.
        minutes: that it was allowed.
        all_rows_s: seconds that all rows would have taken.
        tokens_per_second: its speed.
        peak_rss_mb: most memory of its process.
        peak_gpu_mb: most memory of the GPU.
        device: what it ran on.
    """

    method: str | None = None
    learning_rate: float | None = None
    rank: int | None = None
    rows: int | None = None
    by_origin: Mapping[str, int] | None = None
    left_out: int | None = None
    trained_rows: int | None = None
    dropped: Mapping[str, int] | None = None
    adapters: Sequence[str] | None = None
    dev_loss: float | None = None
    tokens: int | None = None
    epochs: float | None = None
    steps: int | None = None
    stopped: str | None = None
    loss: Figures | None = None
    parity: Figures | None = None
    seconds: float | None = None
    minutes: float | None = None
    all_rows_s: float | None = None
    tokens_per_second: float | None = None
    peak_rss_mb: float | None = None
    peak_gpu_mb: float | None = None
    device: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainingFacts:
        """The facts among the values of a JSON file, of a training's result or of a report."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        known |= {"loss": _only(values.get("loss"), _LOSS), "parity": _only(values.get("parity"), _PARITY)}
        return cls(**known)


def _only(figures: Mapping[str, Any] | None, keys: Sequence[str]) -> Figures | None:
    return None if figures is None else {key: figures.get(key) for key in keys}
