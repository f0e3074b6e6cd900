"""What the preference recipes share: they start from the SFT model and look at examples that it has not learned.

A tuned model answers what it was trained on as it was told; what it prefers wrongly shows on other examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import dspy

from optimizers.lora_sft import LoraSft
from synth_dspy.training.optimizer import Settings, WeightOptimizer
from synth_dspy.training.rows import Rows, preference_rows
from synth_dspy.training.traces import Trace


@dataclass(frozen=True)
class AfterSft(WeightOptimizer):
    """A recipe that begins where `LoraSft` ended; the same training is found again, not repeated.

    Attributes:
        warm: begin with the SFT model; False: with the student as it is.
        most: at most so many rows.
    """

    examples: int = 12
    samples: int = 2
    warm: bool = True
    most: int = 10

    cpu: ClassVar[Settings] = {
        **LoraSft.cpu,
        "learning_rate": 5e-5,
        "batch": 4,
        "beta": 0.1,
        "warmup_steps": 1,
    }
    gpu: ClassVar[Settings] = {
        "learning_rate": 5e-6,
        "epochs": 1,
        "batch": 16,
        "beta": 0.1,
        "quantize": True,
        "gradient_checkpointing": True,
    }

    def start(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None
    ) -> dspy.Module:
        return self._sft().compile(student, trainset=trainset, valset=valset) if self.warm else student

    def chosen(self, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        learned = {example.id for example in self._sft().chosen(trainset)} if self.warm else set()
        rows = self.ordered(trainset)
        return ([row for row in rows if row.id not in learned] or rows)[: self.bound()]

    def rows(self, traces: Sequence[Trace]) -> Rows:
        return preference_rows(traces, most=self.bounded(self.most))

    def _sft(self) -> LoraSft:
        return LoraSft(self.resources, self.metric)
