"""GRPO, RLOO and online DPO: the model samples, a reward scores, the better samples become likelier.

Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", arXiv:2402.03300;
Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
arXiv:2402.14740; Guo et al., "Direct Language Model Alignment from Online AI Feedback", arXiv:2402.04792.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from trl import GRPOTrainer, RLOOTrainer
from trl.experimental.online_dpo import OnlineDPOTrainer

from synth_dspy.training.reward_server import JudgeReward
from synth_dspy.training.trainers.common import LeanTrainer

Reward = Callable[[Mapping[str, Any], str], float]
"""(row, reply) -> score, in [0, 1]."""


class _Online(LeanTrainer):
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self.tokens = int(self.state.num_input_tokens_seen)
        super().log(logs, start_time)


class Grpo(_Online, GRPOTrainer):
    """TRL's GRPOTrainer, unchanged."""


class Rloo(_Online, RLOOTrainer):
    """TRL's RLOOTrainer, unchanged."""


class OnlineDpo(LeanTrainer, OnlineDPOTrainer):
    """TRL's OnlineDPOTrainer, which counts no tokens itself; of two samples with equal rewards it prefers the first."""

    def _forward(self, model: Any, prompt_ids: Any, prompt_mask: Any, completion_ids: Any, *rest: Any) -> Any:
        if torch.is_grad_enabled():  # not in the pass of the reference model
            self.tokens += prompt_ids.numel() + completion_ids.numel()
        return super()._forward(model, prompt_ids, prompt_mask, completion_ids, *rest)


def scored_by(reward: Reward) -> Callable[..., list[float]]:
    """A reward in TRL's form: for a batch of samples, with their rows as JSON."""

    def rewards(*, completions: Sequence[Any], row: Sequence[str], **rest: Any) -> list[float]:
        replies = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
        rows = [json.loads(own) for own in row]
        if isinstance(reward, JudgeReward):
            return reward.score_many(rows, replies)
        return [float(reward(own, text)) for own, text in zip(rows, replies, strict=True)]

    return rewards
