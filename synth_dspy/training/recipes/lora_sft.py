"""LoRA SFT: the student learns the reference answers to the same prompts that it will be served.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from synth_dspy.training.optimizer import Method, Settings, WeightOptimizer
from synth_dspy.training.rows import Rows, sft_rows
from synth_dspy.training.traces import Trace


@dataclass(frozen=True)
class LoraSft(WeightOptimizer):
    """LoRA supervised fine-tuning on the reference answers.

    Attributes:
        abstentions: maximum share of abstentions among the rows. All abstentions have the same wording while answers
            differ, so under uncertainty greedy decoding prefers to abstain.
    """

    abstentions: float = 1.0

    method: ClassVar[Method] = "sft"
    # One row per step, in the upper half of the layers: in the time of 32 rows in batches of 4 in all 30 layers, 64
    # rows in 15 layers make eight times as many steps, and a model that answers instead of one that stammers. The
    # warm-up is a tenth of the steps (`trainers` bounds it): with two steps one seed in four ended 12 points lower.
    cpu: ClassVar[Settings] = {
        "learning_rate": 1e-3,
        "epochs": 1,
        "batch": 1,
        "warmup_steps": 20,
        "lora": {"layers": 15},
        "gguf": "F16",
    }

    def rows(self, traces: Sequence[Trace]) -> Rows:
        return sft_rows(traces, abstentions=self.abstentions)
