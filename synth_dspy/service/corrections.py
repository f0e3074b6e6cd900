"""The answer of a program as an output with a type, which a corrected answer is checked against."""

from __future__ import annotations

from contextlib import suppress

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.rag import RetrieveAndAnswer
from synth_dspy.evaluation.answers import TEXT, AnswerType, answer_type
from synth_dspy.evaluation.metrics import is_abstention
from synth_dspy.pipeline.answering import Answering
from synth_dspy.pipeline.program_inputs import programs_of

_SHOWN = 60


class Corrections:
    """Checks corrected answers of a program.

    Only where the engine itself makes the answer's text from an output is the text one of that output's type; a module
    of the user's own may return anything as its answer.

    Args:
        program: the program.

    Attributes:
        typed: whether a corrected answer may be of a wrong type.
        choices: the values that a corrected answer may have, if the output's type lists them.
    """

    def __init__(self, program: dspy.Module) -> None:
        program = programs_of(program)[0]
        is_ours = isinstance(program, Answering | RetrieveAndAnswer)
        self._abstain = program.abstain if is_ours else ""
        self._output = _typed_output(program) if is_ours else None
        self.typed = self._output is not None
        classes = () if self._output is None else self._output.classes
        self.choices = (*classes, self._abstain) if classes and self._abstain else classes

    def problem_with(self, text: str) -> str | None:
        """What is wrong with a corrected answer, as a sentence; None if nothing is."""
        if self._output is None or (self._abstain and is_abstention(text, self._abstain)):
            return None
        remedy = self._output.problem_with(text)
        if remedy is None:
            return None
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        return f"{shown!r} is not a value of the output {self._output.name}: {remedy}."


def _typed_output(program: Answering | RetrieveAndAnswer) -> AnswerType | None:
    """The output that is the answer; None if it is a text, or if no predictor has it."""
    with suppress(SetupError):
        output = answer_type(program.program if isinstance(program, Answering) else program, program.output)
        return None if output.kind == TEXT else output
    return None
