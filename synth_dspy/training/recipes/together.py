"""DSPy's BetterTogether: demonstrations, then weights, then demonstrations for the tuned model.

Soylu et al., "Fine-Tuning and Prompt Optimization: Two Great Steps that Work Better Together", arXiv:2407.10930.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import dspy
from dspy.teleprompt import Teleprompter

from synth_dspy.core.errors import ArmError
from synth_dspy.core.resources import Resources
from synth_dspy.training import prompting
from synth_dspy.training.optimizer import Configured, Settings, WeightOptimizer, described, note_outcome
from synth_dspy.training.recipes.bootstrap import Bootstrap
from synth_dspy.training.recipes.lora_dpo import LoraDpo


class _Step(Teleprompter):
    """A recipe as a step: DSPy goes on without a step that failed, and this keeps the error."""

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.recipe = recipe
        self.error: Exception | None = None

    def compile(
        self, student: dspy.Module, *, trainset: list[dspy.Example], valset: list[dspy.Example] | None = None
    ) -> dspy.Module:
        try:
            return self.recipe.compile(student, trainset=trainset, valset=valset or [])
        except Exception as error:
            self.error = error
            raise


@dataclass(frozen=True)
class Together:
    """Prompt and weights by turns (p -> w -> p, with DPO after SFT); the best program on the dev questions is kept.

    Attributes:
        resources: the run's models and executor.
        metric: scores answers, in [0, 1].
        weights: the recipe of the step `w`; it trains without demonstrations.
        strategy: the order of the steps.
    """

    resources: Resources
    metric: Callable[..., float]
    weights: type[WeightOptimizer] = LoraDpo
    strategy: str = "p -> w -> p"

    trains_weights: ClassVar[bool] = True

    @classmethod
    def with_settings(cls, **by_method: Settings) -> Configured:
        """With other settings of the trainings, by method."""
        return Configured(cls, by_method)

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None = None
    ) -> dspy.Module:
        if not valset:
            raise ArmError("The arm chooses among its steps on dev questions, and there are none: label more.")
        steps = {
            "p": _Step(Bootstrap(self.resources, self.metric)),
            "w": _Step(self.weights(self.resources, self.metric)),
        }
        with prompting.quiet("together"), dspy.context(lm=self.resources.student):
            best = dspy.BetterTogether(metric=self.metric, **steps).compile(
                student,
                trainset=list(trainset),
                valset=list(valset),
                num_threads=self.resources.executor.concurrency,
                seed=self.resources.seed,
                strategy=self.strategy,
            )
        for step in steps.values():
            if step.error is not None:
                raise step.error
        chosen = best.candidate_programs[0]["strategy"] or "no step"
        best.candidate_programs = []  # whole programs with their demonstrations: not part of the arm
        note_outcome(self, f"The program after {chosen} was the best on the dev questions.")
        return best

    @property
    def description(self) -> str:
        """Its description in the report."""
        return described(self)
