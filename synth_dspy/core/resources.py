"""The resources of a run that a task's factories get."""

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
    """What the engine passes to a task's factories once models and knowledge are ready.

    Attributes:
        student: the LM to improve; the program runs on whichever LM is set on it.
        teacher: the LM that writes training data.
        judge_lm: the judge's LM, or None for a judge without one.
        judge_model: the judge's model string.
        embedder: maps texts to unit vectors.
        retriever: search over the task's documents, or None if the source has none.
        executor: runs calls concurrently.
        seeds: labelled examples of the training groups, for prompts.
        learned: labelled examples that are in the trainset anyway; synthesis need not repeat their questions.
        held_out: labelled examples of the dev and test groups, for decontamination; never for prompts.
        words: budget of words for passages.
        seed: random seed.
        quick: whether this is a quick run.
        judge: the task's judge, once it exists; scores the student's answers for preferences.
        training: settings by training method, from the run's configuration.
        minutes: time limit of each training; None: no limit.
        feedback: people's feedback: the program's inputs, with `chosen` and `rejected`, or `answer` and `good`.
        questions: questions without references: the program's inputs, with `unanswered` set.
        rater: scores answers to these, in [0, 1]; None if nothing can.
        scored: whether programs will be scored on what is synthesised: only the surest questions will do.
        evidence: see `Task.evidence`.
        noun: see `Task.noun`.
        domain: see `Task.domain`.
        abstain: see `Task.abstain`.
        steps: see `Retrieval.steps`.
        tuned: programs of the arms with tuned weights that were made before this one, by the arms' names.
        evidence_by_id: a cache: by the id of a training example, whether the program is given evidence for its answer.
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
    questions: Sequence[dspy.Example] = ()
    rater: Metric | None = None
    scored: bool = False
    evidence: Metric | None = None
    noun: str = "document"
    domain: str = ""
    abstain: str = ""
    learned: Sequence[dspy.Example] = ()
    steps: str = "auto"
    tuned: Mapping[str, dspy.Module] = field(default_factory=dict)
    evidence_by_id: dict[str, bool] = field(default_factory=dict)


def bounded(number: int, resources: Resources) -> int:
    """The number of examples or rows that a recipe uses; an eighth of it in a quick run."""
    return max(1, number // 8) if resources.quick else number


@runtime_checkable
class NeedsResources(Protocol):
    """A metric that needs the run's models; `with_resources` returns the metric that uses them."""

    def with_resources(self, resources: Resources) -> Metric: ...
