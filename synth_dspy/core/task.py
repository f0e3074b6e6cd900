"""The declaration: what a task is, before any model is named and without doing any I/O.

A task file in `programs/` holds one function decorated with `@task`. Its parameters become command-line flags
(`--task.<name>`); its result is a `Task`. Everything else (splitting, synthesis, compilation, evaluation, the report)
is the engine's, the same for every task.

Labelled rows are `dspy.Example`s everywhere. Those the engine makes or reads carry, besides the program's own
fields: `id` (unique), `group` (what splits are made by), `references` (list of accepted answers; empty when the
right answer is to abstain), `category` (for break-downs), `origin` ("gold" or "synthetic"), `question` (the item in
words, as the report shows it) and, where a text does not say it all, `expected` (the accepted answer as a JSON value).
A program returns a prediction with `answer` (a text; JSON where the answer is structured) and `abstained`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.domains.documents.documents import Document, Skipped
    from synth_dspy.domains.documents.retrieval import Retriever
    from synth_dspy.models.embedder import Embedder


@dataclass(frozen=True, slots=True)
class Item:
    """One unit of knowledge to generate from: a chunk, a function, a topic, an industry.

    `group` is what splits are made by (the document, the function), before anything is generated.
    """

    id: str
    group: str
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A generated example before the filters have spoken.

    `fields` are the program's inputs and outputs and what else its row shall hold; `inputs` names the inputs.
    """

    id: str
    item: Item
    fields: Mapping[str, Any]
    category: str = ""
    inputs: tuple[str, ...] = ("question", "document")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of a candidate. `score` in [0, 1] where the filter has one, else 0.0 or 1.0."""

    keep: bool
    score: float
    why: str


class Filter(Protocol):
    """`candidate -> Verdict`. Must be safe to call from several threads; order-dependent ones say so."""

    name: str

    def __call__(self, candidate: Candidate) -> Verdict: ...


class Metric(Protocol):
    """DSPy's convention: a score in [0, 1] of one prediction against one example."""

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float: ...


class Optimizer(Protocol):
    """DSPy's shape: compile a program on a trainset, choose on a valset. An arm of the report is one of these."""

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module: ...


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a source yields once read.

    Attributes:
        items: what training data is generated from.
        labelled: human-labelled examples about it, perhaps none.
        prompts: labelled examples from elsewhere, for prompting the teacher where `labelled` is empty.
        documents: what the index holds; empty for a source without documents.
        skipped: what could not be read, and why.
    """

    items: Sequence[Item]
    labelled: Sequence[dspy.Example] = ()
    prompts: Sequence[dspy.Example] = ()
    documents: Sequence[Document] = ()
    skipped: Sequence[Skipped] = ()


class Source(Protocol):
    """Where the task's knowledge comes from. `read()` does I/O; building a source does not.

    `limit` bounds the number of groups, taken in an order that does not depend on the folder's.
    """

    def read(self, limit: int | None = None) -> Knowledge: ...


@runtime_checkable
class Checked(Protocol):
    """A source that knows what nobody could learn from, and raises a `SetupError` that says so.

    It is asked where a run begins or goes on. An older run's programs are loaded without: what they have learned from
    may have been edited since.
    """

    def check(self) -> None: ...


class Judge(Protocol):
    """A judge has a metric's face, and scores many rows at once where that is faster.

    `agreement` says how well it agrees with human labels (keys `n`, `kappa`, `auroc`, `accuracy`, `source`, and where
    they are known `kappa_interval` and `auroc_interval`, pairs), or is empty where nobody has measured it; the report
    prints it beside the scores.
    """

    name: str

    @property
    def agreement(self) -> Mapping[str, Any]: ...

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float: ...

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]: ...


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
    learned: Sequence[dspy.Example] = ()
    known_evidence: dict[str, bool] = field(default_factory=dict)


def bounded(number: int, resources: Resources) -> int:
    """A number of examples or rows that a recipe takes; an eighth of it in a quick run."""
    return max(1, number // 8) if resources.quick else number


@dataclass(frozen=True, slots=True)
class Task:
    """A declaration. Building one does no I/O, calls no model and names no model.

    Attributes:
        source: the knowledge, and the human-labelled examples about it.
        program: makes the untuned DSPy program; every arm is a compiled copy of it.
        synthesizer: makes the module that writes candidates from an item.
        filters: makes the filters, cheapest first.
        judge: makes the judge of answers.
        metrics: further scores of every prediction, by name.
        optimizers: arms by name, each a factory of an optimizer; the first is the baseline (None: the program as is).
            A factory whose attribute `trains_weights` is true is an arm for students whose weights are here only; a
            `WeightOptimizer` class and what is made of one have it, and a function that calls one can be given it.
        objective: what the optimizers climb: `judged`, or the name of one of the metrics.
        arms: names of the arms that run when none are named.
        wording: question -> language in which the documents are likely to answer it, searched for too.
        words: words of passages that the program is given, where the run does not say.
        noun: what a group is called.
        evidence: how much of the evidence for an example's answer a prediction was made from, NaN where none is known;
            weights do not learn answers that were given none of it: they would learn to make answers up.
        asks: names of the task's settings that say what is asked, not what is known: they leave the index as it is.
        labels: flags that give labelled items of the user's own, with words for their values; the report advises them.
    """

    source: Source
    program: Callable[[Resources], dspy.Module]
    synthesizer: Callable[[Resources], dspy.Module]
    filters: Callable[[Resources], Sequence[Filter]]
    judge: Callable[[Resources], Judge]
    metrics: Mapping[str, Metric]
    optimizers: Mapping[str, Callable[[Resources, Metric], Optimizer | None]]
    objective: str = "judged"
    arms: tuple[str, ...] = ()
    wording: Callable[[str], str] | None = None
    words: int = 350
    noun: str = "document"
    evidence: Metric | None = None
    asks: tuple[str, ...] = ()
    labels: str = ""


TaskFunction = Callable[..., Task]


def task(function: TaskFunction) -> TaskFunction:
    """Mark the function of a task file that builds its `Task`; its parameters become `--task.` flags."""
    function.__synth_dspy_task__ = True  # type: ignore[attr-defined]
    return function
