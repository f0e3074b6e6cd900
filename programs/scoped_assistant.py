"""Scoped assistant: a bank's chat that answers what is in scope in the house's tone, and declines the rest.

python -m synth_dspy.compile scoped_assistant
python -m synth_dspy.compile scoped_assistant --models.teacher openai/gpt-4.1-mini
python -m synth_dspy.compile scoped_assistant --task.questions path/to/clinc150
python -m synth_dspy.compile scoped_assistant --task.house ~/my-house

Untuned arms have the house's rules in every prompt; tuned ones have learned them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import dspy

from synth_dspy import Resources, Task, assistant_tools, recipes, task

SAMPLE = Path(__file__).resolve().parents[1] / "data" / "bank"


class AnswerCustomer(dspy.Signature):
    """Answer the customer, or decline."""  # the house's own words take this place

    conversation: str = dspy.InputField(desc="what was said before, if anything")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class ScopedAssistant(dspy.Module):
    """Answer or decline. `short` is the prompt of an assistant that has learned the rules."""

    def __init__(self, house: assistant_tools.House, resources: Resources) -> None:
        super().__init__()
        self.short = house.words("short")
        self.answer = dspy.Predict(AnswerCustomer.with_instructions(house.instructions()))

    def forward(self, question: str, conversation: str = "") -> dspy.Prediction:
        with dspy.context(adapter=assistant_tools.ChatTurnsAdapter()):
            reply = self.answer(conversation=conversation, question=question)
        answer = str(reply.answer).strip()
        return dspy.Prediction(answer=answer, abstained=assistant_tools.declines(answer))


@task
def scoped_assistant(house: Path | None = None, questions: Path | None = None, asked: Path | None = None) -> Task:
    """A chat assistant with a scope, rules and a tone.

    Args:
        house: a folder with your own topics, rules, tone and labelled questions, in the form of data/bank.
        questions: Banking77 or CLINC150 (folder or file): real questions for the decision to answer or to decline.
        asked: candidates of an earlier run (datasets/candidates-train.jsonl), for which only responses are written.
    """
    home = assistant_tools.House(house or SAMPLE)

    return Task(
        source=assistant_tools.Topics(home, questions),
        program=partial(ScopedAssistant, home),
        synthesizer=partial(assistant_tools.assistant_synthesizer, home, asked),
        filters=partial(assistant_tools.assistant_filters, home),
        judge=partial(assistant_tools.make_assistant_judge, home),
        metrics={
            "scope": assistant_tools.scope,
            "declines_right": assistant_tools.declines_right,
            "answers_right": assistant_tools.answers_right,
            "rules": assistant_tools.RulesKept(home),
            "tone": assistant_tools.RulesKept(home, tone=True),
            "helpfulness": assistant_tools.Helpfulness(),
            "length": assistant_tools.length,
        },
        optimizers={
            "zero_shot": recipes.as_declared,
            "bootstrap": recipes.Bootstrap,
            "mipro": recipes.Mipro,
            "sft": recipes.without_rules(recipes.LoraSft),
            "dpo": recipes.without_rules(recipes.LoraDpo),
            "orpo": recipes.without_rules(recipes.LoraOrpo),
            "kto": recipes.without_rules(recipes.LoraKto),
            "grpo": recipes.without_rules(recipes.LoraGrpo),
            "rloo": recipes.without_rules(recipes.LoraRloo),
            "online_dpo": recipes.without_rules(recipes.LoraOnlineDpo),
            "together": recipes.without_rules(recipes.Together),
            "distill": recipes.without_rules(recipes.Distill),
        },
        arms=("zero_shot", "bootstrap", "sft", "dpo", "orpo"),
        words=60,
        noun="topic",
        labels="--task.house FOLDER",
    )
