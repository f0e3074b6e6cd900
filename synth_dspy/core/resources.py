"""What the engine hands to a task's factories once models and knowledge are ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from synth_dspy.core.executor import Executor
from synth_dspy.core.protocols import Embedder, Judge, Metric, Retriever

if TYPE_CHECKING:
    import dspy


@dataclass(frozen=True, slots=True)
class Resources:
    """What the engine hands to a task's factories once models and knowledge are ready.

    Attributes:
        student: the LM under test; the program runs on whichever LM is set on it.
        teacher: the LM that writes training data.
        judge_lm: the judge's LM, or None for the judge that needs none.
        judge_model: the judge's model string.
        embedder: texts to unit vectors.
        retriever: search over the task's knowledge, or None where the source has no documents.
        executor: runs many calls at once.
        seeds: labelled examples of the training groups, for prompts.
        learned: labelled examples that are trained on: what is synthesised need not ask the same again.
        held_out: labelled examples of the development and test groups, for decontamination; never for prompts.
        words: passages' budget, in words.
        seed: seed of everything sampled.
        quick: whether a smaller search is wanted.
        judge: the task's judge, once it has been made; scores the student's answers for preferences.
        training: settings of each training method, by its name, as the run's configuration has them.
        minutes: how long each training may take; None: as long as its rows need.
        feedback: preferences that people gave: the program's inputs, with `chosen` and `rejected`.
        evidence: see `Task.evidence`.
        noun: see `Task.noun`.
        abstain: see `Task.abstain`.
        steps: see `Retrieval.steps`.
        known_evidence: by the id of a training example, whether there is some, as far as it has been found out.
    """

    student: dspy.LM
    teacher: dspy.LM
    judge_lm: dspy.LM | None
    judge_model: str
    embedder: Embedder
    retriever: Retriever | None
    executor: Executor
    seeds: Sequence[dspy.Example]
    held_out: Sequence[dspy.Example]
    words: int
    seed: int = 0
    quick: bool = False
    judge: Judge | None = None
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    minutes: float | None = None
    feedback: Sequence[dspy.Example] = ()
    evidence: Metric | None = None
    noun: str = "document"
    abstain: str = ""
    learned: Sequence[dspy.Example] = ()
    steps: str = "auto"
    known_evidence: dict[str, bool] = field(default_factory=dict)


def bounded(number: int, resources: Resources) -> int:
    """A number of examples or rows that a recipe takes; an eighth of it in a quick run."""
    return max(1, number // 8) if resources.quick else number


@runtime_checkable
class NeedsResources(Protocol):
    """A metric that scores with the run's models: once they are ready, it gives the metric that does."""

    def with_resources(self, resources: Resources) -> Metric: ...
