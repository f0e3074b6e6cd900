"""Distillation of a page of rules: trained on answers that keep them, served without them.

The untuned program carries the rules in every prompt. `without_rules(LoraSft)` is `LoraSft` on the same program with
its short instructions: what the rules ask for is learned from the answers, and no prompt pays for them again.

Askell et al., "A General Language Assistant as a Laboratory for Alignment", arXiv:2112.00861, section 2.2 (context
distillation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import make_dataclass, replace
from typing import Any, ClassVar

import dspy

from synth_dspy.training.optimizer import Settings, WeightOptimizer, bare


class _WithoutRules:
    """What is added to a recipe: it begins with the program under its short instructions."""

    defaults: ClassVar[Mapping[str, Settings]] = {}

    def compile(
        self: Any,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        given = self.resources.training
        training = {m: {**self.defaults.get(m, {}), **given.get(m, {})} for m in {**self.defaults, **given}}
        recipe = replace(self, resources=replace(self.resources, training=training))
        return super(_WithoutRules, recipe).compile(short(student), trainset=trainset, valset=valset)


def without_rules(
    recipe: type[WeightOptimizer], defaults: Mapping[str, Settings] | None = None
) -> type[WeightOptimizer]:
    """The same recipe for a program without its rules: one with an attribute `short`, its short instructions.

    Args:
        recipe: a class of `optimizers/lora_*.py`.
        defaults: by method, settings that go before the recipe's own and after the run's configuration
            (`[training.options.<method>]`). Recipes that begin with SFT need its settings too.
    """
    namespace = {"defaults": defaults or {}, "__doc__": f"{_summary(recipe)} Rules are left out of the prompt."}
    made = make_dataclass(
        f"{recipe.__name__}WithoutRules", (), bases=(_WithoutRules, recipe), frozen=True, namespace=namespace
    )
    made.__module__ = recipe.__module__
    return made


def short(program: dspy.Module) -> dspy.Module:
    """A copy of the program, its LMs kept, under its short instructions and without demonstrations."""
    copy = bare(program)
    for predictor in copy.predictors():
        predictor.signature = predictor.signature.with_instructions(program.short)
    return copy


def _summary(recipe: type) -> str:
    return (recipe.__doc__ or "").splitlines()[0]
