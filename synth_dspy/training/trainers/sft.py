"""Supervised fine-tuning: the loss of every completion token, none of the prompt's."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from trl import SFTTrainer

from synth_dspy.training.sequences import token_logps
from synth_dspy.training.trainers.common import LeanTrainer


class Sft(LeanTrainer, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer on packed groups. Every completion token of the run weighs the same.

    The mean over a step's tokens, which is TRL's loss, does not do that where steps are small: a token of a short reply
    shares its step with fewer others. With two rows a step, a model taught to make no call in 18 of 64 rows gave that
    reply, two tokens long, three quarters of the probability, whatever was asked. Here a step's sum is divided by what
    a step of as many rows holds in the mean. The loss that is logged is the mean over the tokens.
    """

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: float | None = None
    ) -> Any:
        packed = self._packed(inputs)
        with self.accelerator.autocast():
            logps = token_logps(model, packed)
        if self.model.training:
            self._said += (-logps.detach().sum().item(), len(logps))
        return -logps.sum() / (num_items_in_batch or len(logps))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._said:
            logs["loss"] = sum(self._said[::2]) / sum(self._said[1::2])
            self._said.clear()
        super().log(logs, start_time)

    @cached_property
    def _said(self) -> list[float]:
        """Loss and number of the tokens of each micro-batch since the last entry of the history."""
        return []

    @cached_property
    def _tokens_a_row(self) -> float:
        groups = [self.data_collator.groups[i] for batch in self.train_dataset["groups"] for i in batch]
        return sum(len(group.completions[0]) for group in groups) / len(groups)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> float:
        """Completion tokens that an optimizer step of as many rows has in the mean."""
        return self._tokens_a_row * sum(len(batch["packed"].lengths) for batch in batch_samples)
