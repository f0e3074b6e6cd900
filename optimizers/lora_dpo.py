"""LoRA DPO: the SFT model learns to prefer right answers to its own wrong ones.

Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", arXiv:2305.18290.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optimizers._lora_preferences import AfterSft
from synth_dspy.training.optimizer import Method


@dataclass(frozen=True)
class LoraDpo(AfterSft):
    """LoRA direct preference optimisation on pairs of a better and a worse answer, after SFT."""

    method: ClassVar[Method] = "dpo"
