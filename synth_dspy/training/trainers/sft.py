"""Supervised fine-tuning, with the loss on completion tokens only."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from trl import SFTTrainer

from synth_dspy.training.sequences import token_logps
from synth_dspy.training.trainers.common import LeanTrainer


class Sft(LeanTrainer, SFTTrainer):
    """TRL's SFTTrainer on packed groups. Every completion token of the run has the same weight, up to clipping.

    TRL's loss is the mean over a step's tokens, so in small steps tokens of short replies have more weight. With two
    rows per step, a model trained to make no call in 18 of 64 rows gave that reply, two tokens long, three quarters of
    the probability for any question. Here every step's sum is divided by the same number: the mean number of tokens per
    step. The logged loss is still the mean over the step's tokens.
    """

    _loss = 0.0
    """Sum over the completion tokens since the last entry of the history."""
    _loss_tokens = 0
    """Number of these tokens."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: float | None = None
    ) -> Any:
        packed = self._packed(inputs)
        with self.accelerator.autocast():
            logps = token_logps(model, packed)
        if self.model.training:
            self._loss -= logps.detach().sum().item()
            self._loss_tokens += len(logps)
        return -logps.sum() / (num_items_in_batch or self._tokens_of_a_dev_row)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._loss_tokens:
            logs["loss"] = self._loss / self._loss_tokens
            self._loss, self._loss_tokens = 0.0, 0
        super().log(logs, start_time)

    @cached_property
    def _tokens_of_a_step(self) -> float:
        """Mean number of completion tokens per optimizer step."""
        micro: int = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return self._mean_tokens(self.train_dataset) * micro

    @cached_property
    def _tokens_of_a_dev_row(self) -> float:
        return self._mean_tokens(self.eval_dataset)

    def _mean_tokens(self, dataset: Any) -> float:
        """Mean number of completion tokens per dataset row, which may be packed."""
        rows = dataset["groups"]
        lengths = [len(self.data_collator.groups[i].completions[0]) for row in rows for i in row]
        return sum(lengths) / len(rows)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> float:
        return self._tokens_of_a_step
