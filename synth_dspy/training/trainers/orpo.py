"""Odds ratio preference optimisation: SFT on the chosen answer plus an odds-ratio penalty for the rejected one.

Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model", arXiv:2403.07691. TRL includes the
prompt in the SFT loss, as the paper's code does; with retrieved passages, the prompt is most of the tokens and would be
most of the loss. Here the loss is that of the completion alone, as for every other method.
"""

from __future__ import annotations

from typing import Any

from trl.experimental.orpo import ORPOTrainer

from synth_dspy.training.sequences import completion_logps
from synth_dspy.training.trainers.common import LeanTrainer


class Orpo(LeanTrainer, ORPOTrainer):
    """TRL's ORPOTrainer on groups of (chosen, rejected)."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        packed = self._packed(inputs)
        with self.accelerator.autocast():
            logps = completion_logps(model, packed)
        chosen, rejected = (logps / logps.new_tensor(packed.lengths)).view(-1, 2).unbind(1)
        preference, *_ = self.odds_ratio_loss(chosen, rejected)
        self._note(margin=(chosen - rejected).mean().item(), accuracy=(chosen > rejected).float().mean().item())
        return self._averaged(-chosen - preference)

    def tokenize_row(self, feature: Any, model: Any = None) -> Any:
        return feature
