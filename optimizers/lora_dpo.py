"""LoRA DPO: the SFT model learns to prefer right answers to its own wrong ones.

Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a Reward Model", arXiv:2305.18290.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from optimizers._lora_preferences import AfterSft
from synth_dspy.training.optimizer import Method, Settings


@dataclass(frozen=True)
class LoraDpo(AfterSft):
    """LoRA direct preference optimisation on pairs of a better and a worse answer, after SFT."""

    method: ClassVar[Method] = "dpo"
    cpu: ClassVar[Settings] = {
        "learning_rate": 5e-5,
        "epochs": 1,
        "batch": 4,
        "beta": 0.1,
        "warmup_steps": 1,
        "gguf": "F16",
    }
    gpu: ClassVar[Settings] = {
        "learning_rate": 5e-6,
        "epochs": 1,
        "batch": 16,
        "beta": 0.1,
        "quantize": True,
        "gradient_checkpointing": True,
    }
