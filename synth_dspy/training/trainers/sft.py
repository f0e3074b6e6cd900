"""Supervised fine-tuning: the loss of every completion token, none of the prompt's."""

from __future__ import annotations

from typing import Any

from trl import SFTTrainer

from synth_dspy.training.sequences import token_logps
from synth_dspy.training.trainers.common import LeanTrainer


class Sft(LeanTrainer, SFTTrainer):  # type: ignore[misc]
    """TRL's SFTTrainer on packed groups. A step's loss is the mean over all its completion tokens."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        packed = self._packed(inputs)
        with self.accelerator.autocast():
            logps = token_logps(model, packed)
        return -logps.sum() / (num_items_in_batch or len(logps))

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> int:
        """Completion tokens of an optimizer step."""
        return sum(len(batch["packed"].targets) for batch in batch_samples)
