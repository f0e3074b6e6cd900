"""How a small teacher writes: one more question like those in its prompt; responses are the house's own words.

A model of 135M parameters can neither analyse a topic nor follow a page of rules. It can write one more line like
the four in its prompt; filters keep what fits. It does not write the responses: the house has written them already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dspy
import numpy as np

from synth_dspy.domains.assistant.chain import of_house
from synth_dspy.domains.assistant.house import House
from synth_dspy.domains.assistant.rules import violations
from synth_dspy.models.adapter import PlainAdapter


class WriteLike(dspy.Signature):
    """Write a message that a customer types into the chat of {what}."""

    about: str = dspy.InputField()
    message: str = dspy.OutputField()


class SeededQuestions(dspy.Module):
    """Has a small teacher write one question about a topic and a subtopic, after labelled questions of the same kind.

    Args:
        house: the house whose customers write the questions.
    """

    def __init__(self, house: House) -> None:
        super().__init__()
        self.write = dspy.Predict(of_house(WriteLike, house))

    def forward(self, about: str, shown: Sequence[tuple[str, str]], turn: int = 0) -> dspy.Prediction:
        """`questions`, a list of one. Samples share their prompt, which a server with prefix caching processes once.

        Args:
            about: topic and subtopic in words.
            shown: (about, question) of labelled questions.
            turn: the number of the sample.
        """
        demos = [dspy.Example(about=what, message=question) for what, question in shown]
        config = {"max_tokens": 32, "temperature": 0.7, "top_p": 0.9, "stop": ["\n"], "rollout_id": turn + 1}
        with dspy.context(adapter=PlainAdapter()):
            message = self.write(about=about, demos=demos, config=config).message
        return dspy.Prediction(questions=[" ".join(str(message).split("\n")[0].split())])


class HouseResponses(dspy.Module):
    """Answers in the house's own words: about the subtopic, or a refusal, that of the most similar labelled question.

    Sentences that break a rule are left out. If nothing is left, the filters reject the empty answer.
    """

    def __init__(self, house: House, seeds: Sequence[dspy.Example], embed: Any) -> None:
        super().__init__()
        self.house = house
        self.embed = embed
        self.declined = [seed for seed in seeds if not seed.references]
        self._vectors = embed([seed.question for seed in self.declined]) if self.declined else None

    def forward(self, question: str, conversation: str = "", house_says: str = "") -> dspy.Prediction:
        """`answer` and `in_scope`: the answer is the house's own text; without one, it declines."""
        answer = house_says or self._decline(question)
        rules = (*self.house.rules, *self.house.tone)
        broken = violations(answer, rules)
        if broken:
            sentences = [part.strip() + "." for part in answer.split(".") if part.strip()]
            answer = " ".join(sentence for sentence in sentences if not violations(sentence, rules))
        return dspy.Prediction(answer=answer, in_scope=bool(house_says), broken=broken)

    def _decline(self, question: str) -> str:
        if self._vectors is None:
            return self.house.words("decline")
        nearest = int(np.argmax(self._vectors @ self.embed([question])[0]))
        return str(self.declined[nearest].answer)
