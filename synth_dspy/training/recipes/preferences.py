"""Base of the preference recipes: they start from the SFT model and learn from its own wrong answers.

Examples that SFT was not trained on come first: a tuned model reproduces the answers that it was trained on, so its
errors show on others. After one epoch they show on the trained ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import dspy

from synth_dspy.training.optimizer import Settings, WeightOptimizer, learned_sources
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.rows import Rows, preference_rows
from synth_dspy.training.traces import Trace


@dataclass(frozen=True)
class AfterSft(WeightOptimizer):
    """A recipe that starts from the result of `LoraSft`, whose training is not repeated if it has been done.

    Attributes:
        warm: start from the SFT model; False: from the student as it is.
        most: maximum number of rows.
    """

    examples: int | None = 64
    samples: int = 2
    warm: bool = True
    most: int = 40

    cpu: ClassVar[Settings] = {
        **LoraSft.cpu,
        "learning_rate": 2e-4,
        "batch": 4,
        "beta": 0.1,
        "warmup_steps": 1,
    }
    gpu: ClassVar[Settings] = {"beta": 0.1}

    def start(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None
    ) -> dspy.Module:
        return self._sft().compile(student, trainset=trainset, valset=valset) if self.warm else student

    def chosen(self, program: dspy.Module, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        learned = learned_sources(program)
        unseen_first = sorted(self.ordered(trainset), key=lambda example: str(example.id) in learned)
        return unseen_first[: self.bound()]

    def rows(self, traces: Sequence[Trace]) -> Rows:
        return preference_rows(traces, most=self.bounded(self.most))

    def _sft(self) -> LoraSft:
        return LoraSft(self.resources, self.metric)
