"""GRPO and RLOO: the model samples, a reward scores, the better samples become likelier.

Shao et al., "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models", arXiv:2402.03300;
Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
arXiv:2402.14740.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trl import GRPOTrainer, RLOOTrainer

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


def scored_by(reward: Reward) -> Callable[..., list[float]]:
    """A reward in TRL's form: for a batch of samples, with their rows as JSON."""

    def rewards(*, completions: Sequence[Any], row: Sequence[str], **rest: Any) -> list[float]:
        replies = [each if isinstance(each, str) else each[-1]["content"] for each in completions]
        rows = [json.loads(own) for own in row]
        if isinstance(reward, JudgeReward):
            return reward.score_many(rows, replies)
        return [float(reward(own, text)) for own, text in zip(rows, replies, strict=True)]

    return rewards
