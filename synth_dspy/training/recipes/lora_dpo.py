"""LoRA DPO: the SFT model learns to prefer right answers to its own wrong ones.

Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", arXiv:2305.18290.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from synth_dspy.training.optimizer import Method
from synth_dspy.training.recipes.preferences import AfterSft


@dataclass(frozen=True)
class LoraDpo(AfterSft):
    """LoRA direct preference optimisation on pairs of a better and a worse answer, after SFT."""

    method: ClassVar[Method] = "dpo"
