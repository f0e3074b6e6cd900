"""A router over tuned arms: each question goes to the adapter that did best on the questions most like it.

Learned from the dev questions' scores alone: nearest neighbours by the embedder's vectors, which do as well at routing
as larger models of the choice (Li, "Rethinking Predictive Modeling for LLM Routing: When Simple kNN Beats Complex
Learned Routers", arXiv:2505.12601). Where the questions are few, or routing does not beat the best single adapter on
dev questions left out one at a time, that one answers all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dspy
import numpy as np

from synth_dspy.core.errors import ArmError
from synth_dspy.core.protocols import Embedder
from synth_dspy.core.resources import Resources

if TYPE_CHECKING:
    from synth_dspy.core.protocols import Vectors

FEWEST = 16
"""Dev questions that routing needs."""
NEIGHBOURS = 5


@dataclass
class Router:
    """Which program answers a question.

    Attributes:
        programs: their names.
        questions: the dev questions.
        scores: of each dev question, by program; shape (questions, programs).
        embedder: of questions.
    """

    programs: Sequence[str]
    questions: Sequence[str]
    scores: Sequence[Sequence[float]]
    embedder: Embedder

    @cached_property
    def best(self) -> int:
        """The program with the highest mean score, the first of equals."""
        return int(np.mean(self.scores, axis=0).argmax())

    @cached_property
    def routed(self) -> tuple[float, float]:
        """Mean scores of routing, each dev question by the others, and of the best single program."""
        scores = np.asarray(self.scores)
        similar = self._vectors @ self._vectors.T
        np.fill_diagonal(similar, -np.inf)
        chosen = [self._nearest(row) for row in similar]
        return float(scores[np.arange(len(scores)), chosen].mean()), float(scores.mean(axis=0).max())

    @cached_property
    def routes(self) -> bool:
        """Whether questions are routed, rather than all put to the best program."""
        return len(self.questions) >= FEWEST and self.routed[0] > self.routed[1]

    def choose(self, question: str) -> str:
        """The name of the program for a question."""
        if not self.routes:
            return self.programs[self.best]
        return self.programs[self._nearest(self._vectors @ self.embedder.embed([question])[0])]

    def describe(self) -> str:
        """The choice as a sentence for the report."""
        names, best, n = ", ".join(self.programs), self.programs[self.best], len(self.questions)
        if n < FEWEST:
            return f"All questions go to {best}, since {n} dev questions are too few to route by ({FEWEST} at least)."
        means = f"{self.routed[0]:.2f} against {self.routed[1]:.2f} of {best} on {n} dev questions, each left out"
        if not self.routes:
            return f"All questions go to {best}: routing among {names} does not beat it ({means})."
        return f"Questions are routed among {names} by their nearest dev questions ({means})."

    @cached_property
    def _vectors(self) -> Vectors:
        return self.embedder.embed(self.questions)

    def _nearest(self, similar: Vectors) -> int:
        """The program with the best mean among the nearest questions; of equals, the best on all."""
        nearest = np.argsort(-similar, kind="stable")[:NEIGHBOURS]
        means = np.asarray(self.scores)[nearest].mean(axis=0)
        return self.best if means[self.best] >= means.max() else int(means.argmax())


class Routed(dspy.Module):
    """Several programs, one of which answers each question."""

    def __init__(self, programs: Mapping[str, dspy.Module], router: Router) -> None:
        super().__init__()
        self.programs = dict(programs)
        self.router = router

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """The answer of the program that the router chooses."""
        return self.programs[self.router.choose(question_of(inputs))](**inputs)

    def set_lm(self, lm: dspy.LM) -> None:
        """Nothing: each program has a model of its own."""

    def dump_state(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Empty: the programs are saved as arms of their own."""
        return {}


@dataclass
class Route:
    """Nearest dev questions choose among the tuned arms."""

    resources: Resources
    metric: Callable[..., float]
    description: str = field(default="Nearest dev questions choose among the tuned arms.", init=False)

    after_others = True
    """Marks an arm that is made of the others, and so comes last."""

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module:
        """Score the tuned programs on the dev questions, and learn which answers which.

        Raises:
            ArmError: fewer than two arms were tuned, or there are no dev questions.
        """
        programs = self.resources.tuned
        if len(programs) < 2:
            listed = f"there is {next(iter(programs))} alone" if programs else "there is none"
            raise ArmError(f"A router needs two tuned arms, and {listed}: name more with --evaluation.arms, or --arm.")
        if not valset:
            raise ArmError("A router learns from dev questions, and there are none.")
        scores = np.transpose([self._scores(program, valset) for program in programs.values()]).tolist()
        questions = [question_of(dict(example.inputs())) for example in valset]
        router = Router(list(programs), questions, scores, self.resources.embedder)
        self.description = router.describe()
        return Routed(programs, router)

    def _scores(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[float]:
        """Scores of a program's answers; 0 for a failed call, and where the metric does not apply."""

        def score(example: dspy.Example) -> float:
            return float(self.metric(example, program(**example.inputs())))

        outcomes = self.resources.executor.map(score, examples)
        return [0.0 if outcome.error or math.isnan(outcome.unwrap()) else outcome.unwrap() for outcome in outcomes]


def question_of(inputs: Mapping[str, Any]) -> str:
    """The text that a question is routed by: the program's `question`, or all that it is given."""
    return str(inputs["question"]) if "question" in inputs else "\n".join(map(str, inputs.values()))
