"""This workspace's recipes: an arm that stands here goes before the engine's, in every task that names no optimizers.

`recipes.LoraSft.with_settings(sft={"epochs": 2})` is a recipe with settings of your own; whatever makes a DSPy
optimizer of `(resources, metric)` will do.
"""

from __future__ import annotations

from typing import Any

from synth_dspy import recipes

CONTRACTS: dict[str, dict[str, Any]] = {"sft": {"abstentions": 0.08}}
"""Settings by method, of contract_qa: contracts are silent on a sixth of what they are asked."""

RECIPES: dict[str, Any] = {"sft": recipes.LoraSft}
