"""Scoped assistant: a bank's chat that answers what is in scope in the house's tone, and declines the rest.

python -m synth_dspy.compile scoped_assistant
python -m synth_dspy.compile scoped_assistant --models.teacher openai/gpt-4.1-mini
python -m synth_dspy.compile scoped_assistant --task.questions path/to/clinc150
python -m synth_dspy.compile scoped_assistant --task.house ~/my-house

Untuned arms have the house's rules in every prompt; tuned ones have learned them and do without.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dspy

from synth_dspy.core.resources import Resources
from synth_dspy.core.task import Task, task
from synth_dspy.domains.assistant.house import House
from synth_dspy.domains.assistant.judge import make_assistant_judge
from synth_dspy.domains.assistant.metrics import (
    RulesKept,
    answers_right,
    declines,
    declines_right,
    helpfulness,
    length,
    scope,
)
from synth_dspy.domains.assistant.source import Topics
from synth_dspy.domains.assistant.synthesis import assistant_filters, assistant_synthesizer
from synth_dspy.models.chat_adapter import ChatTurnsAdapter
from synth_dspy.training.recipes.bootstrap import Bootstrap
from synth_dspy.training.recipes.lora_dpo import LoraDpo
from synth_dspy.training.recipes.lora_orpo import LoraOrpo
from synth_dspy.training.recipes.lora_sft import LoraSft
from synth_dspy.training.recipes.mipro import Mipro
from synth_dspy.training.recipes.without_rules import without_rules


class AnswerCustomer(dspy.Signature):
    """Answer the customer, or decline."""  # the house's own words take this place

    conversation: str = dspy.InputField(desc="what was said before, if anything")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class ScopedAssistant(dspy.Module):
    """Answer or decline. `short` is the prompt of an assistant that has learned the rules."""

    def __init__(self, house: House, resources: Resources) -> None:
        super().__init__()
        self.short = house.words("short")
        self.answer = dspy.Predict(AnswerCustomer.with_instructions(house.instructions()))

    def forward(self, question: str, conversation: str = "") -> dspy.Prediction:
        with dspy.context(adapter=ChatTurnsAdapter()):
            said = self.answer(conversation=conversation, question=question)
        answer = str(said.answer).strip()
        return dspy.Prediction(answer=answer, abstained=declines(answer))


@task
def scoped_assistant(house: Path | None = None, questions: Path | None = None, asked: Path | None = None) -> Task:
    """A chat assistant with a scope, rules and a tone.

    Args:
        house: a folder with your own topics, rules, tone and labelled questions, in the form of data/bank.
        questions: Banking77 or CLINC150 (folder or file): real questions for the decision to answer or to decline.
        asked: candidates of an earlier run (datasets/candidates-train.jsonl); only their responses are written anew.
    """
    home = House(house or Path(__file__).resolve().parents[1] / "data" / "bank")

    return Task(
        source=Topics(home, questions),
        program=partial(ScopedAssistant, home),
        synthesizer=partial(assistant_synthesizer, home, asked),
        filters=partial(assistant_filters, home),
        judge=partial(make_assistant_judge, home),
        metrics={
            "scope": scope,
            "declines_right": declines_right,
            "answers_right": answers_right,
            "rules": RulesKept(home),
            "tone": RulesKept(home, tone=True),
            "helpfulness": helpfulness,
            "length": length,
        },
        optimizers={
            "zero_shot": lambda resources, metric: None,
            "bootstrap": Bootstrap,
            "mipro": Mipro,
            "sft": without_rules(LoraSft),
            "dpo": without_rules(LoraDpo),
            "orpo": without_rules(LoraOrpo),
        },
        arms=("zero_shot", "bootstrap", "sft", "dpo", "orpo"),
        words=60,
        noun="topic",
        labels="--task.house FOLDER",
    )
