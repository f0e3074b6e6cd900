"""The declaration: what a task is, before any model is named and without doing any I/O.

A task file in `programs/` holds one function decorated with `@task`. Its parameters become command-line flags
(`--task.<name>`); its result is a `Task`. A program and a source suffice: what a task leaves out follows from the type
of its program's answer (`synth_dspy.pipeline.defaults`). Everything else (splitting, synthesis, compilation,
evaluation, the report) is the engine's, the same for every task.

Labelled rows are `dspy.Example`s everywhere. Those the engine makes or reads carry, besides the program's own
fields: `id` (unique), `group` (what splits are made by), `references` (list of accepted answers; empty when the
right answer is to abstain), `category` (for break-downs), `origin` ("gold" or "synthetic"), `question` (the item in
words, as the report shows it) and, where a text does not say it all, `expected` (the accepted answer as a JSON value).
A program that a factory makes returns a prediction with `answer` (a text; JSON where the answer is structured) and
`abstained`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synth_dspy.core.knowledge import Source
from synth_dspy.core.protocols import Filter, Judge, Metric
from synth_dspy.core.resources import Resources

if TYPE_CHECKING:
    import dspy

Program = Callable[[Resources], "dspy.Module"]
Arm = Callable[..., Any]
"""`(resources, metric) -> Optimizer | None`; None: the program as it is. Of DSPy's classes mypy cannot tell."""


@dataclass(frozen=True, slots=True)
class Task:
    """A declaration. Building one does no I/O, calls no model and names no model.

    Attributes:
        program: the untuned DSPy program, or what makes it once models and knowledge are ready; every arm of the report
            is a compiled copy of it.
        source: the knowledge, and the human-labelled examples about it.
        answer: which output of the program is its answer, where it has several.
        abstain: the program's words for "there is no answer"; empty: it always answers.
        synthesizer: makes the module that writes candidates from an item; by default the source's own, if it has one.
        filters: makes the filters, cheapest first; by default the source's own.
        judge: makes the judge of answers; by default equality for a label, field by field for a structure, and the
            judge that the run names (`--models.judge`) for a text.
        metrics: further scores of every prediction, by name; by default those that suit the type of the answer.
        optimizers: arms by name, each a factory of an optimizer; the first is the baseline (None: the program as is).
            A factory whose attribute `trains_weights` is true is an arm for students whose weights are here only; a
            `WeightOptimizer` class and what is made of one have it, and a function that calls one can be given it. By
            default the program as it is and every recipe of the engine, or of the workspace's `optimizers/`.
        objective: what the optimizers climb: `judged`, or the name of one of the metrics.
        arms: names of the arms that run when none are named.
        wording: question -> language in which the documents are likely to answer it, searched for too.
        words: words of passages that the program is given, where the run does not say.
        noun: what a group is called.
        domain: what the questions are about, such as `contracts`: the report shows the judge's agreement with people
            where it was measured on answers in this domain.
        evidence: how much of the evidence for an example's answer a prediction was made from, NaN where none is known;
            weights do not learn answers that were given none of it: they would learn to make answers up.
        asks: names of the task's settings that say what is asked, not what is known: they leave the index as it is.
        labels: flags that give labelled items of the user's own, with words for their values; the report advises them.
    """

    program: dspy.Module | Program
    source: Source
    answer: str = ""
    abstain: str = ""
    synthesizer: Program | None = None
    filters: Callable[[Resources], Sequence[Filter]] | None = None
    judge: Callable[[Resources], Judge] | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    optimizers: Mapping[str, Arm] = field(default_factory=dict)
    objective: str = ""
    arms: tuple[str, ...] = ()
    wording: Callable[[str], str] | None = None
    words: int = 350
    noun: str = "document"
    domain: str = ""
    evidence: Metric | None = None
    asks: tuple[str, ...] = ()
    labels: str = ""


@dataclass(frozen=True, slots=True)
class CompleteTask:
    """A task with everything said, as the engine works with it; see `Task` for the attributes.

    Attributes:
        classes: the labels that an answer can be, in their order; empty where it is no label.
        output: what the program calls its answer.
    """

    program: Program
    source: Source
    abstain: str
    synthesizer: Program | None
    filters: Callable[[Resources], Sequence[Filter]]
    judge: Callable[[Resources], Judge]
    metrics: Mapping[str, Metric]
    optimizers: Mapping[str, Arm]
    objective: str
    arms: tuple[str, ...]
    wording: Callable[[str], str] | None
    words: int
    noun: str
    domain: str
    evidence: Metric | None
    asks: tuple[str, ...]
    labels: str
    classes: tuple[str, ...] = ()
    output: str = "answer"


TaskFunction = Callable[..., Task]


def task(function: TaskFunction) -> TaskFunction:
    """Mark the function of a task file that builds its `Task`; its parameters become `--task.` flags."""
    function.__synth_dspy_task__ = True  # type: ignore[attr-defined]
    return function
