"""Trial trainings of one arm, compared by the greedy answers of their models to the dev questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from synth_dspy.core.executor import Executor
from synth_dspy.core.protocols import Metric
from synth_dspy.core.text import as_text
from synth_dspy.models.weights.trained import read_result
from synth_dspy.training.optimizer import training_folder


@dataclass(frozen=True, slots=True)
class Answers:
    """Greedy answers and their scores, in [0, 1]; a failed call has the text "" and scores 0."""

    texts: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean score; 0.0 without answers."""
        return sum(self.scores) / len(self.scores) if self.scores else 0.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One training.

    Attributes:
        options: its settings.
        program: with the tuned LM.
        answers: to the dev questions.
        accuracy: reward accuracy on the dev rows, the share of pairs or labels that the trained model orders right;
            NaN if unknown.
    """

    options: Mapping[str, Any]
    program: dspy.Module
    answers: Answers
    accuracy: float


def answer_all(program: dspy.Module, examples: Sequence[dspy.Example], executor: Executor, score: Metric) -> Answers:
    """The program's answers to the examples, and their scores."""

    def answer(example: dspy.Example) -> tuple[str, float]:
        prediction = program(**example.inputs())
        value = prediction.get("answer")
        text = as_text(value if value is not None else prediction.toDict())
        scored = float(score(example, prediction))
        return text, 0.0 if math.isnan(scored) else scored

    outcomes = executor.map(answer, examples)
    pairs = [("", 0.0) if outcome.error is not None else outcome.unwrap() for outcome in outcomes]
    return Answers(tuple(text for text, _ in pairs), tuple(scored for _, scored in pairs))


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the best mean score, of equal ones that with the best reward accuracy, then the first."""
    return max(trials, key=lambda trial: (trial.answers.mean, 0.0 if math.isnan(trial.accuracy) else trial.accuracy))


def dev_accuracy(program: dspy.Module) -> float:
    """Reward accuracy on the dev rows of the training that a program's LM comes from; NaN if it has none."""
    folder = training_folder(program)
    return math.nan if folder is None else float((read_result(folder) or {}).get("dev_accuracy") or math.nan)
