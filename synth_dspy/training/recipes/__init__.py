"""Recipes of the arms, for prompts and weights, each a DSPy optimizer. A task that names none gets all of them."""

from __future__ import annotations

from synth_dspy.core.task import Arm
from synth_dspy.training.recipes.bootstrap import Bootstrap
from synth_dspy.training.recipes.cpt import Cpt, CptSft
from synth_dspy.training.recipes.distill import Distill
from synth_dspy.training.recipes.gepa import Gepa
from synth_dspy.training.recipes.lora_dpo import LoraDpo
from synth_dspy.training.recipes.lora_grpo import LoraGrpo, LoraOnlineDpo, LoraRloo
from synth_dspy.training.recipes.lora_kto import LoraKto
from synth_dspy.training.recipes.lora_orpo import LoraOrpo
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.recipes.mipro import Mipro
from synth_dspy.training.recipes.random_search import RandomSearch
from synth_dspy.training.recipes.route import Route
from synth_dspy.training.recipes.together import Together
from synth_dspy.training.recipes.without_rules import without_rules

RECIPES: dict[str, Arm] = {
    "bootstrap": Bootstrap,
    "random_search": RandomSearch,
    "mipro": Mipro,
    "gepa": Gepa,
    "sft": LoraSft,
    "dpo": LoraDpo,
    "orpo": LoraOrpo,
    "kto": LoraKto,
    "grpo": LoraGrpo,
    "rloo": LoraRloo,
    "online_dpo": LoraOnlineDpo,
    "together": Together,
    "distill": Distill,
    "cpt": Cpt,
    "cpt_sft": CptSft,
    "route": Route,
}
DEFAULT_ARMS = ("bootstrap", "sft", "dpo", "orpo")

__all__ = [
    "DEFAULT_ARMS", "RECIPES", "Bootstrap", "Cpt", "CptSft", "Distill", "Gepa", "LoraDpo", "LoraGrpo", "LoraKto",
    "LoraOnlineDpo", "LoraOrpo", "LoraRloo", "LoraSft", "Mipro", "RandomSearch", "Route", "Together", "as_declared",
    "without_rules",
]  # fmt: skip


def as_declared(resources: object, metric: object) -> None:
    """The arm without an optimizer: the program as it is."""
