"""What a recipe is set to: by itself, by the task, by the run's configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from scripted import scripted_lm, scripted_resources

from optimizers.lora_dpo import LoraDpo
from optimizers.lora_sft import LoraSft
from synth_dspy.task import Resources
from synth_dspy.training import optimizer


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "has_gpu", lambda: False)


def run(**training: Any) -> Resources:
    return scripted_resources(scripted_lm(lambda said: said), training=training)


def metric(example: Any, prediction: Any, trace: Any = None) -> float:
    return 1.0


def test_the_configuration_goes_before_the_task_and_the_task_before_the_recipe() -> None:
    made = LoraDpo(run(dpo={"most": 3, "epochs": 2}), metric, settings={"epochs": 5, "beta": 0.5})
    assert (made.most, made.examples) == (3, 12)
    assert made.options() == {**LoraDpo.cpu, "epochs": 2, "beta": 0.5}
    assert LoraSft(run(dpo={"epochs": 2}), metric).options() == LoraSft.cpu


def test_a_recipe_for_other_resources_is_set_anew() -> None:
    made = replace(LoraSft(run(), metric), resources=run(sft={"examples": 5, "parity": 0.5}))
    assert made.examples == made.bound() == 5
    assert made.options()["parity"] == 0.5


def test_a_quick_run_traces_a_quarter() -> None:
    assert LoraSft(replace(run(sft={"examples": 8}), quick=True), metric).bound() == 2
