"""BootstrapFewShot with random search: several sets of demonstrations, the best on the development set wins.

Khattab et al., arXiv:2310.03714, section 4.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dspy

from synth_dspy import prompting
from synth_dspy.task import Resources


@dataclass(frozen=True)
class RandomSearch:
    """An arm that chooses among zero-shot, labelled and bootstrapped prompts.

    Attributes:
        resources: the run's models and executor.
        metric: what a trace is accepted by, and what candidates are compared by, in [0, 1].
        threshold: the least score of an accepted trace.
        candidates: random sets of demonstrations, besides zero-shot, labelled and unshuffled ones.
        demonstrations: at most this many, fewer where they do not fit the budget.
        attempts: training examples that the teacher may try.
        budget: tokens that demonstrations may take in a prompt.
    """

    resources: Resources
    metric: Callable[..., float]
    threshold: float = 0.5
    candidates: int = 1
    demonstrations: int = 4
    attempts: int = 24
    budget: int = 1000

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module:
        rows = list(trainset)
        random.Random(self.resources.seed).shuffle(rows)
        rows = rows[: self.attempts // 2 if self.resources.quick else self.attempts]
        most = prompting.demonstrations_within(rows, self.budget, self.demonstrations)
        teacher = prompting.labelled_teacher(student, rows, k=min(3, most), seed=self.resources.seed)
        with dspy.context(lm=self.resources.teacher):
            prompting.warm(teacher, rows, self.resources.executor)
        with prompting.quiet("random_search"):
            optimizer = dspy.BootstrapFewShotWithRandomSearch(
                metric=self.metric,
                metric_threshold=self.threshold,
                teacher_settings={"lm": self.resources.teacher},
                max_bootstrapped_demos=max(1, most // 2),
                max_labeled_demos=most,
                num_candidate_programs=self.candidates,
                num_threads=self.resources.executor.concurrency,
            )
            compiled = optimizer.compile(student, teacher=teacher, trainset=rows, valset=list(valset))
        compiled.candidate_programs = []
        return prompting.fit_demonstrations(compiled, self.budget)
