"""LoRA GRPO: the student samples, a reward scores, better samples of the same prompt become likelier.

Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", arXiv:2402.03300.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from synth_dspy.training.optimizer import Method, Settings
from synth_dspy.training.recipes.preferences import AfterSft
from synth_dspy.training.rows import Rows, grpo_rows
from synth_dspy.training.traces import Trace


@dataclass(frozen=True)
class LoraGrpo(AfterSft):
    """LoRA group relative policy optimisation against a reward, after SFT.

    The reward runs in the training's process: `reward_f1` in `evaluation/metrics.py`, a function of a row and a reply.
    """

    samples: int = 0

    method: ClassVar[Method] = "grpo"
    cpu: ClassVar[Settings] = {
        **AfterSft.cpu,
        "learning_rate": 2e-5,
        "beta": 0.04,
        "reward": "synth_dspy.evaluation.metrics:reward_f1",
    }
    gpu: ClassVar[Settings] = {
        **AfterSft.gpu,
        "beta": 0.04,
        "generations": 8,
        "reward": "synth_dspy.evaluation.metrics:reward_f1",
    }

    def rows(self, traces: Sequence[Trace]) -> Rows:
        return grpo_rows(traces)
