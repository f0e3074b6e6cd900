"""What a recipe is set to: by itself, by the task, by the run's configuration."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from scripted import scripted_lm, scripted_resources

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.resources import Resources
from synth_dspy.pipeline.arms import most_trainings
from synth_dspy.training import optimizer
from synth_dspy.training.recipes import CptSft, Together
from synth_dspy.training.recipes.lora_dpo import LoraDpo
from synth_dspy.training.recipes.lora_sft import LoraSft


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "has_gpu", lambda: False)


def run(**training: Any) -> Resources:
    return scripted_resources(scripted_lm(lambda prompt: prompt), training=training)


def metric(example: Any, prediction: Any, trace: Any = None) -> float:
    return 1.0


def test_the_configuration_goes_before_the_task_and_the_task_before_the_recipe() -> None:
    made = LoraDpo(run(dpo={"most": 3, "epochs": 2}), metric, settings={"epochs": 5, "beta": 0.5})
    assert (made.most, made.examples) == (3, 64)
    assert made.options(8) == {**LoraDpo.cpu, "minutes": None, "epochs": 2, "beta": 0.5}
    assert LoraSft(run(dpo={"epochs": 2}), metric).options(8) == {**LoraSft.cpu, "minutes": None}


def test_a_task_s_own_settings_go_before_the_recipe_s_and_reach_the_one_that_it_begins_with() -> None:
    ours = LoraDpo.with_settings(dpo={"most": 3, "beta": 0.5}).with_settings(sft={"examples": 9})
    assert isinstance(ours(run(), metric), LoraDpo)
    made = ours(run(dpo={"beta": 0.2}), metric)
    assert (made.most, made.options(8)) == (3, {**LoraDpo.cpu, "minutes": None, "beta": 0.2})
    assert made._sft().examples == 9
    assert ours(run(sft={"examples": 4}), metric)._sft().examples == 4
    assert LoraDpo(run(), metric).most == 40, "the recipe itself stays as it is"


def test_a_recipe_for_other_resources_is_set_anew() -> None:
    made = replace(LoraSft(run(), metric), resources=run(sft={"examples": 5, "parity": 0.5}))
    assert made.examples == made.bound() == 5
    assert made.options(8)["parity"] == 0.5


def test_a_quick_run_traces_an_eighth() -> None:
    assert LoraSft(replace(run(sft={"examples": 16}), quick=True), metric).bound() == 2
    assert LoraSft(run(), metric).bound() is None
    assert LoraSft(replace(run(), quick=True), metric).bound() == 12


def test_what_the_program_was_given_no_evidence_for_is_not_learned() -> None:
    searched: list[str] = []

    class Lookup(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.answer = dspy.Predict("passage, question -> answer")

        def forward(self, question: str) -> dspy.Prediction:
            searched.append(question)
            passage = {"Which law?": "The law of Ohio governs."}.get(question, "Nothing of the kind.")
            return dspy.Prediction(answer=self.answer(passage=passage, question=question).answer, passages=[passage])

    def retrieved(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(example.answer in prediction.passages[0]) if example.answer != "silent" else math.nan

    replies = {"Which law?": "Ohio", "Which day?": "9 May", "Which fee?": "silent"}
    rows = [dspy.Example(id=q, question=q, answer=answer).with_inputs("question") for q, answer in replies.items()]
    resources = scripted_resources(scripted_lm(lambda text: "no model is asked"), evidence=retrieved)
    program = Lookup()
    program.set_lm(resources.student)
    kept = LoraSft(resources, metric).with_evidence(program, rows)
    assert [row.answer for row in kept] == ["Ohio", "silent"]
    assert LoraDpo(resources, metric).with_evidence(program, rows) == kept
    assert sorted(searched) == sorted(replies)  # once for all recipes of a run
    assert LoraSft(run(), metric).with_evidence(program, rows) == rows


def test_the_plan_counts_every_training_that_arms_may_make() -> None:
    optimizers = {
        "rag": lambda resources, metric: None,
        "sft": LoraSft,
        "ours": LoraDpo.with_settings(dpo={"most": 3}),
        "searched": LoraDpo.with_settings(dpo={"rates": [1.0, 0.3]}),
        "read": CptSft,
        "by turns": Together,
    }
    task: Any = SimpleNamespace(optimizers=optimizers)

    def most(*names: str, **options: Any) -> int:
        return most_trainings(task, names, CompileConfig.model_validate({"training": {"options": options}}))

    assert [most("rag"), most("rag", "sft"), most("sft", "ours")] == [0, 1, 2]
    assert [most("ours"), most("read"), most("by turns")] == [2, 2, 2], "with the one that each begins with"
    assert most("ours", "read", "by turns") == 5
    assert most("searched") == 3
    assert most("sft", "ours", dpo={"betas": [1.0, 0.3, 0.1]}) == 4
