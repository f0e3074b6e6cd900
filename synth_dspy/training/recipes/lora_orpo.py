"""LoRA ORPO: answers and preferences in one loss, without a reference model.

Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model", arXiv:2403.07691.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from synth_dspy.training.optimizer import Method
from synth_dspy.training.recipes.preferences import AfterSft


@dataclass(frozen=True)
class LoraOrpo(AfterSft):
    """LoRA odds-ratio preference optimisation on the same pairs, after SFT."""

    method: ClassVar[Method] = "orpo"
