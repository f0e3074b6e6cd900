"""Direct preference optimisation; the reference is the model before training.

Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", arXiv:2305.18290.
"""

from __future__ import annotations

from typing import Any

from torch.nn import functional
from trl import DPOTrainer

from synth_dspy.training.trainers.common import LeanTrainer


class Dpo(LeanTrainer, DPOTrainer):
    """TRL's DPOTrainer (sigmoid loss) on groups of (chosen, rejected), with `reference` log-probabilities (n, 2)."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        chosen, rejected = (self.beta * self._gains(model, inputs)).unbind(1)
        margins = chosen - rejected
        self._note(margin=margins.mean().item(), accuracy=(margins > 0).float().mean().item())
        return self._averaged(-functional.logsigmoid(margins))

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # they are in `reference`
