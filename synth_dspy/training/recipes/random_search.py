"""BootstrapFewShot with random search: of several sets of demonstrations, the best on the valset wins.

Khattab et al., arXiv:2310.03714, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import dspy

from synth_dspy.training.recipes.bootstrap import Bootstrap


@dataclass(frozen=True)
class RandomSearch(Bootstrap):
    """The best, on the development set, of zero-shot, labelled and bootstrapped prompts.

    Attributes:
        candidates: number of random sets of demonstrations, besides zero-shot, labelled and unshuffled ones.
    """

    candidates: int = 1

    def search(
        self,
        student: dspy.Module,
        teacher: dspy.Module,
        rows: list[dspy.Example],
        valset: list[dspy.Example],
        most: int,
    ) -> dspy.Module:
        optimizer = dspy.BootstrapFewShotWithRandomSearch(
            metric=self.metric,
            metric_threshold=self.threshold,
            num_candidate_programs=self.candidates,
            num_threads=self.resources.executor.concurrency,
            **self._settings(most),
        )
        compiled = optimizer.compile(student, teacher=teacher, trainset=rows, valset=valset)
        compiled.candidate_programs = []  # whole programs with their demonstrations: not part of the arm
        return compiled
