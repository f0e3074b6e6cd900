"""Distillation of a page of rules: trained on answers that keep them, served without them.

The untuned program carries the rules in every prompt. `without_rules(LoraSft)` is `LoraSft` on the same program with
its short instructions: what the rules ask for is learned from the answers, and no prompt pays for them again.

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
from synth_dspy.training.optimizer import Configured, Settings, WeightOptimizer, bare


@dataclass(frozen=True, slots=True)
class Short:
    """An optimizer that begins with the program under its short instructions.

    Attributes:
        optimizer: the recipe of a run.
    """

    optimizer: WeightOptimizer

    @property
    def name(self) -> str:
        """What the report calls it."""
        return f"{type(self.optimizer).__name__}WithoutRules"

    @property
    def description(self) -> str:
        """What the report says of it."""
        return f"{(type(self.optimizer).__doc__ or '').splitlines()[0]} Rules are left out of the prompt."

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None = None
    ) -> dspy.Module:
        """The recipe's result for the short program."""
        return self.optimizer.compile(short(student), trainset=trainset, valset=valset)


class WithoutRules(Configured):
    """A recipe for a program without its rules: one with an attribute `short`, its short instructions."""

    __slots__ = ()

    def __call__(self, resources: Resources, metric: Metric) -> Any:
        """The recipe of a run."""
        return Short(super().__call__(resources, metric))


def without_rules(recipe: type[WeightOptimizer], settings: Mapping[str, Settings] | None = None) -> WithoutRules:
    """The recipe for a program without its rules.

    Args:
        recipe: a class of `training/recipes`.
        settings: the task's own, by method, as `with_settings` takes them.
    """
    return WithoutRules(recipe, settings or {})


def short(program: dspy.Module) -> dspy.Module:
    """A copy of the program, its LMs kept, under its short instructions and without demonstrations."""
    copy = bare(program)
    for predictor in copy.predictors():
        predictor.signature = predictor.signature.with_instructions(program.short)
    return copy
