"""BootstrapFewShot: the teacher's own accepted traces become the student's demonstrations.

Khattab et al., "DSPy: Compiling Declarative Language Model Calls into Self-Improving Pipelines", arXiv:2310.03714.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from synth_dspy.core.errors import ArmError
from synth_dspy.core.resources import Resources, bounded
from synth_dspy.training import prompting


@dataclass(frozen=True)
class Bootstrap:
    """Demonstrations from the teacher's accepted answers, filled up with labelled examples.

    Attributes:
        resources: the run's models and executor.
        metric: scores traces, in [0, 1].
        threshold: minimum score of an accepted trace.
        demonstrations: maximum number of demonstrations; fewer if they do not fit the budget.
        attempts: maximum number of training examples for the teacher; an eighth of it in a quick run.
        budget: tokens that demonstrations may take in a prompt.
    """

    resources: Resources
    metric: Callable[..., float]
    threshold: float = 0.5
    demonstrations: int = 4
    attempts: int = 24
    budget: int = 1000

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module:
        if not trainset:
            raise ArmError("There are no training rows to take demonstrations from.")
        rows = list(trainset)
        random.Random(self.resources.seed).shuffle(rows)
        rows = rows[: bounded(self.attempts, self.resources)]
        most = prompting.demonstrations_within(rows, self.budget, self.demonstrations, self.resources.words)
        teacher = prompting.labelled_teacher(student, rows, k=min(3, most), seed=self.resources.seed)
        with dspy.context(lm=self.resources.teacher):
            prompting.prefetch_answers(teacher, rows, self.resources.executor)
        with prompting.quiet(type(self).__name__):
            compiled = self.search(student, teacher, rows, list(valset), most)
        return prompting.fit_demonstrations(compiled, self.budget)

    def search(
        self,
        student: dspy.Module,
        teacher: dspy.Module,
        rows: list[dspy.Example],
        valset: list[dspy.Example],
        most: int,
    ) -> dspy.Module:
        """Compile with DSPy's optimizer; `most` is the number of demonstrations that fit."""
        optimizer = dspy.BootstrapFewShot(
            metric=prompting.at_least(self.metric, self.threshold), **self._settings(most)
        )
        return optimizer.compile(student, teacher=teacher, trainset=rows)

    def _settings(self, most: int) -> dict[str, Any]:
        return {
            "teacher_settings": {"lm": self.resources.teacher},
            "max_bootstrapped_demos": max(1, prompting.traces_among(most)),
            "max_labeled_demos": most,
        }
