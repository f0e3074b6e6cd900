"""Kahneman-Tversky optimisation: single answers labelled right or wrong.

Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", arXiv:2402.01306. The divergence from
the reference is estimated on mismatched answers, taken from other prompts: each row's second completion. People rate
far more answers as good than as bad, or the other way round; as the paper advises, both labels then weigh the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trl import KTOTrainer

from synth_dspy.training.sequences import Group
from synth_dspy.training.trainers.common import LeanTrainer

MOST_WEIGHT = 4.0
"""Of a row of the rarer label: a few rows alone must not decide a step."""


class Kto(LeanTrainer, KTOTrainer):
    """TRL's KTOTrainer on groups of (answer, mismatched answer).

    Inputs have `reference` (n, 2), `label` (n,) and `weight` (n,).
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # TRL needs a fixed order for mismatched pairs; here the pairs are in the rows.
        self.args.train_sampling_strategy = "random"

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: int | None = None
    ) -> Any:
        own, other = self._gains(model, inputs).unbind(1)
        divergence = other.detach().mean().clamp(min=0)
        margins = torch.where(inputs["label"], own - divergence, divergence - own)
        self._note(divergence=divergence.item(), accuracy=(margins > 0).float().mean().item())
        return (inputs["weight"] * (1 - torch.sigmoid(self.beta * margins))).mean()


def label_weights(labels: Sequence[bool]) -> list[float]:
    """A weight for each row, so that both labels together weigh the same, and one on average up to `MOST_WEIGHT`."""
    counts = {label: labels.count(label) for label in (True, False)}
    return [min(len(labels) / (2 * counts[label]), MOST_WEIGHT) for label in labels]


def with_mismatched(groups: Sequence[Group]) -> list[Group]:
    """Add to each group, as its second completion, the answer of the next group with another prompt."""
    paired = []
    for index, group in enumerate(groups):
        others = (groups[(index + step) % len(groups)] for step in range(1, len(groups)))
        other = next((each for each in others if list(each.prompt) != list(group.prompt)), group)
        paired.append(Group(group.prompt, (group.completions[0], other.completions[0])))
    return paired
