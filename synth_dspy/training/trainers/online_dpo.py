"""Online DPO: the model samples twice, a reward says which sample is preferred.

Guo et al., "Direct Language Model Alignment from Online AI Feedback", arXiv:2402.04792.
"""

from __future__ import annotations

from typing import Any

import torch
from trl.experimental.online_dpo import OnlineDPOTrainer

from synth_dspy.training.trainers.common import LeanTrainer


class OnlineDpo(LeanTrainer, OnlineDPOTrainer):
    """TRL's OnlineDPOTrainer, which counts no tokens itself; of two samples with equal rewards it prefers the first."""

    def _forward(self, model: Any, prompt_ids: Any, prompt_mask: Any, completion_ids: Any, *rest: Any) -> Any:
        if torch.is_grad_enabled():  # not in the pass of the reference model
            self.tokens += prompt_ids.numel() + completion_ids.numel()
        return super()._forward(model, prompt_ids, prompt_mask, completion_ids, *rest)
