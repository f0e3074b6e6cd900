"""Any DSPy program as the engine needs it: with its answer as a text, whatever its output is called or is of."""

from __future__ import annotations

from typing import Any

import dspy

from synth_dspy.core.text import as_text
from synth_dspy.evaluation.answers import AnswerType
from synth_dspy.evaluation.metrics import is_abstention


class Answering(dspy.Module):
    """A program whose prediction has `answer` and `abstained` besides its own outputs, which stay as they are.

    Args:
        program: the user's; it is copied, so that arms do not share it.
        answer: which of its outputs is the answer.
        abstain: its words for "there is no answer".
        adapter: how its prompts are written; None: as DSPy is configured.
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
