"""Distillation: the student learns the teacher's accepted answers, where references are few or have another style.

Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv:1503.02531; of sequences, Kim and Rush,
"Sequence-Level Knowledge Distillation", arXiv:1606.07947.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dspy

from synth_dspy.core.errors import ArmError
from synth_dspy.training.optimizer import bare
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.rows import ACCEPT, Rows, sft_rows
from synth_dspy.training.traces import Trace


@dataclass(frozen=True)
class Distill(LoraSft):
    """LoRA supervised fine-tuning on the teacher's answers that the judge accepts.

    The settings are those of sft.

    Attributes:
        samples: answers of the teacher to each question; the best one that is accepted is learned.
        temperature: sampling temperature of the teacher.
    """

    samples: int = 2
    temperature: float = 0.7

    def traced(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[Trace]:
        if self.resources.teacher.model == self.resources.student.model:
            raise ArmError(
                "The arm distils a teacher, and the teacher is the student itself: name a more capable model with "
                "--models.teacher."
            )
        teacher = bare(program)
        teacher.set_lm(self.resources.teacher)
        return super().traced(teacher, examples)

    def unanswered(self) -> Sequence[dspy.Example]:
        return () if self.resources.rater is None else self.ordered(self.resources.questions)

    def rows(self, traces: Sequence[Trace]) -> Rows:
        answered = [replace(trace, reference=None) for trace in traces]  # the teacher's answers alone
        accept = getattr(self.resources.judge, "threshold", ACCEPT)
        return sft_rows(answered, accept=accept, abstentions=self.abstentions)
