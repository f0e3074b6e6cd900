"""MIPROv2: instructions proposed by a capable model and demonstrations, searched together.

Opsahl-Ong et al., "Optimizing Instructions and Demonstrations for Multi-Stage Language Model Programs",
arXiv:2406.11695. Needs `optuna` (`pip install "dspy[optuna]"`) and a teacher that can write instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dspy

from synth_dspy.core.resources import Resources
from synth_dspy.training import prompting


@dataclass(frozen=True)
class Mipro:
    """An arm compiled by MIPROv2; the run's teacher proposes, the student is measured.

    Attributes:
        resources: the run's models and executor.
        metric: scores candidates, in [0, 1].
        effort: DSPy's `light`, `medium` or `heavy`.
        demonstrations: maximum number of demonstrations of each kind.
        budget: tokens that demonstrations may take in a prompt.
    """

    resources: Resources
    metric: Callable[..., float]
    effort: str = "light"
    demonstrations: int = 4
    budget: int = 1600

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module:
        prompting.need_capable_teacher("mipro", self.resources)
        prompting.need_package("mipro", "optuna")
        most = prompting.demonstrations_within(trainset, self.budget, self.demonstrations, self.resources.words)
        optimizer = dspy.MIPROv2(
            metric=self.metric,
            prompt_model=self.resources.teacher,
            task_model=self.resources.student,
            teacher_settings={"lm": self.resources.teacher},
            max_bootstrapped_demos=most,
            max_labeled_demos=most,
            auto=self.effort,
            num_threads=self.resources.executor.concurrency,
            seed=self.resources.seed,
        )
        with prompting.quiet("mipro"):
            compiled = optimizer.compile(student, trainset=list(trainset), valset=list(valset))
        return prompting.fit_demonstrations(compiled, self.budget)
