"""Adapts any DSPy program to the engine: its answer becomes a text, whatever the output's name and type."""

from __future__ import annotations

from typing import Any

import dspy

from synth_dspy.core.text import as_text
from synth_dspy.evaluation.answers import AnswerType
from synth_dspy.evaluation.metrics import is_abstention


class Answering(dspy.Module):
    """A program whose prediction has `answer` and `abstained` in addition to its own outputs.

    Args:
        program: the user's; copied, so that arms do not share it.
        answer: the output that is the answer.
        abstain: its words for "there is no answer".
        adapter: writes its prompts; None uses DSPy's configured adapter.
    """

    def __init__(
        self, program: dspy.Module, answer: AnswerType, abstain: str = "", adapter: dspy.Adapter | None = None
    ) -> None:
        super().__init__()
        self.program = program.deepcopy()
        self.output = answer.name
        self.abstain = abstain
        self.adapter = adapter

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """The program's prediction, with `answer` (a text) and `abstained`."""
        if self.adapter is None:
            prediction = self.program(**inputs)
        else:
            with dspy.context(adapter=self.adapter):
                prediction = self.program(**inputs)
        if self.output not in prediction:
            raise KeyError(f"the prediction has no {self.output!r}, only {', '.join(prediction.keys())}")
        answer = as_text(prediction[self.output])
        fields = {"answer": answer, "abstained": is_abstention(answer, self.abstain), **dict(prediction.items())}
        return dspy.Prediction(**fields)
