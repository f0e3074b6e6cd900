"""Facts about a finished training for reports: its method and settings, rows and result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

Figures = Mapping[str, float | None]

JUDGE = "judge"
"""As a reward, alone or followed by a colon and the judge's name: the run's judge scores the replies."""
_LOSS = ("first", "last")
_PARITY = ("n", "held_out", "tokens", "agreed", "share", "difference")


def is_judge(reward: str | None) -> bool:
    """Whether a reward is the run's judge, and not a function."""
    return reward is not None and reward.partition(":")[0] == JUDGE


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """Facts about a finished training; None if unknown.

    Attributes:
        method: `sft`, `dpo`, ...
        learning_rate: the peak of its schedule.
        rank: rank of the adapter.
        rows: number of rows from the recipe; without a recipe, of rows trained on.
        by_origin: the recipe's rows by origin, including those that are too long; None without a recipe.
        left_out: number of rows that were too long.
        trained_rows: number of rows trained on within the time limit.
        dropped: number of dropped candidates for rows, by reason.
        adapters: folders or names of the adapters that it was trained on top of.
        dev_loss: loss on the dev rows.
        dev_accuracy: reward accuracy on the dev rows: the share of pairs or labels that the model orders right.
        tokens: tokens trained on in all.
        epochs: passes over the rows.
        steps: optimizer steps.
        stopped: `early` (by the loss on the dev rows) or `finished`.
        reward: what rewarded sampled answers: `judge`, `judge:` and its name, or a function.
        loss: mean loss of the `first` and the `last` tenth of the steps.
        parity: agreement of the served model with the trained one, see `training.parity`.
        seconds: duration of the training.
        minutes: its time limit.
        all_rows_s: estimated seconds for all rows.
        tokens_per_second: its speed.
        peak_rss_mb: peak memory of its process.
        peak_gpu_mb: peak memory of the GPU.
        device: the device it ran on.
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
    dev_accuracy: float | None = None
    tokens: int | None = None
    epochs: float | None = None
    steps: int | None = None
    stopped: str | None = None
    reward: str | None = None
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
        """Pick the facts from the values of a JSON file (a training's result, or a report)."""
        present = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        present |= {"loss": _select(values.get("loss"), _LOSS), "parity": _select(values.get("parity"), _PARITY)}
        return cls(**present)


@dataclass(frozen=True, slots=True)
class DiscardedTraining:
    """A training whose result an arm does not use: the arm is the model that the training started from.

    Attributes:
        training: facts about it.
        why: the reason, as a clause about the arm: "its training changed no answer".
    """

    training: TrainingFacts
    why: str


def _select(figures: Mapping[str, Any] | None, keys: Sequence[str]) -> Figures | None:
    return None if figures is None else {key: figures.get(key) for key in keys}
