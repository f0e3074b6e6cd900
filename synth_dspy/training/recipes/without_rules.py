"""Context distillation of rules: trained on answers that follow them, served without them in the prompt.

The untuned program has the rules in every prompt. `without_rules(LoraSft)` is `LoraSft` on the same program with its
short instructions: the model learns the rules from the answers, and prompts no longer need them.

Askell et al., "A General Language Assistant as a Laboratory for Alignment", arXiv:2112.00861, section 2.2 (context
distillation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from synth_dspy.core.protocols import Metric
from synth_dspy.core.resources import Resources
from synth_dspy.core.training_facts import DiscardedTraining
from synth_dspy.training.optimizer import Configured, Settings, WeightOptimizer, bare
from synth_dspy.training.recipes.together import Together


@dataclass(frozen=True, slots=True)
class Short:
    """An optimizer that starts from the program with its short instructions.

    Attributes:
        optimizer: the recipe of a run.
    """

    optimizer: WeightOptimizer | Together

    @property
    def name(self) -> str:
        """Its name in the report."""
        return f"{type(self.optimizer).__name__}WithoutRules"

    @property
    def description(self) -> str:
        """Its description in the report."""
        return f"{self.optimizer.description} Rules are left out of the prompt."

    @property
    def discarded(self) -> DiscardedTraining | None:
        """Its recipe's training, if the program it started from was returned instead."""
        return getattr(self.optimizer, "discarded", None)

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None = None
    ) -> dspy.Module:
        """Compile the program with its short instructions."""
        return self.optimizer.compile(short(student), trainset=trainset, valset=valset)


class WithoutRules(Configured):
    """A recipe for a program without its rules. The program's attribute `short` holds its short instructions."""

    __slots__ = ()

    def __call__(self, resources: Resources, metric: Metric) -> Any:
        """The recipe of a run."""
        return Short(super().__call__(resources, metric))


def without_rules(
    recipe: type[WeightOptimizer] | type[Together], settings: Mapping[str, Settings] | None = None
) -> WithoutRules:
    """The recipe for a program without its rules.

    Args:
        recipe: a class from `training/recipes`.
        settings: the task's settings by method, as for `with_settings`.
    """
    return WithoutRules(recipe, settings or {})


def short(program: dspy.Module) -> dspy.Module:
    """A copy of the program with its short instructions, the same LMs, and no demonstrations."""
    copy = bare(program)
    for predictor in copy.predictors():
        predictor.signature = predictor.signature.with_instructions(program.short)
    return copy
