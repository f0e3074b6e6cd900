"""Distillation of a page of rules: trained on answers that keep them, served without them.

The untuned program carries the rules in every prompt. `without_rules(LoraSft)` is `LoraSft` on the same program with
its short instructions: what the rules ask for is learned from the answers, and no prompt pays for them again.

Askell et al., "A General Language Assistant as a Laboratory for Alignment", arXiv:2112.00861, section 2.2 (context
distillation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dspy

from synth_dspy.training.optimizer import Settings, WeightOptimizer, bare, with_defaults


class _WithoutRules(WeightOptimizer):
    """What is added to a recipe: it begins with the program under its short instructions."""

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        return super().compile(short(student), trainset=trainset, valset=valset)


def without_rules(
    recipe: type[WeightOptimizer], defaults: Mapping[str, Settings] | None = None
) -> type[WeightOptimizer]:
    """The same recipe for a program without its rules: one with an attribute `short`, its short instructions.

    Args:
        recipe: a class of `optimizers/lora_*.py`.
        defaults: the task's settings, by method, as `with_defaults` takes them.
    """
    bases = (_WithoutRules, with_defaults(recipe, defaults or {}))
    named = {"__doc__": f"{_summary(recipe)} Rules are left out of the prompt.", "__module__": recipe.__module__}
    return type(f"{recipe.__name__}WithoutRules", bases, named)


def short(program: dspy.Module) -> dspy.Module:
    """A copy of the program, its LMs kept, under its short instructions and without demonstrations."""
    copy = bare(program)
    for predictor in copy.predictors():
        predictor.signature = predictor.signature.with_instructions(program.short)
    return copy


def _summary(recipe: type) -> str:
    return (recipe.__doc__ or "").splitlines()[0]
