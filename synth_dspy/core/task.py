"""The declaration of a task, which names no model and does no I/O.

A task file in `programs/` holds one function decorated with `@task`. Its parameters become command-line flags
(`--task.<name>`); it returns a `Task`. A program and a source suffice: defaults follow from the type of the program's
answer (`synth_dspy.pipeline.defaults`). Splitting, synthesis, compilation, evaluation and the report are the engine's
and the same for every task.

Labelled rows are `dspy.Example`s everywhere. Besides the program's own fields they have `id` (unique), `group` (the
unit of splitting), `references` (accepted answers; empty if the right answer is to abstain), `category` (for
breakdowns), `origin` ("gold" or "synthetic"), `question` (the item as the report shows it) and, for answers that a text
cannot express, `expected` (the accepted answer as a JSON value). A program made by a factory returns a prediction with
`answer` (a string; JSON if the answer is structured) and `abstained`.
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
"""`(resources, metric) -> Optimizer | None`; None: the program as it is. `Any`, since DSPy's classes are untyped."""


@dataclass(frozen=True, slots=True)
class Task:
    """A declaration. Building one does no I/O and needs no model.

    Attributes:
        program: the uncompiled DSPy program, or a factory that is called once models and knowledge are ready; every arm
            of the report is a compiled copy of it.
        source: the knowledge, and the human-labelled examples about it.
        answer: which output field of the program is its answer, if it has several.
        abstain: the program's phrase for "there is no answer"; empty: it always answers.
        synthesizer: a factory of the module that writes candidates from an item; by default the source's, if any.
        filters: a factory of the filters, cheapest first; by default the source's.
        judge: a factory of the judge; by default equality for a label, field by field for a structure, and the judge
            that the run names (`--models.judge`) for free text.
        metrics: further scores of every prediction, by name; by default those that suit the type of the answer.
        optimizers: arms by name, each a factory of an optimizer; the first is the baseline (None: the program as is).
            A factory whose attribute `trains_weights` is true is an arm for local students only. `WeightOptimizer`
            classes and what is derived from them have the attribute; a function that calls one can set it. By default
            the program as it is and every recipe of the engine, or of the workspace's `optimizers/`.
        objective: what the optimizers maximise: `judged`, or the name of one of the metrics.
        arms: names of the arms that run by default.
        wording: question -> the terms in which the documents are likely to answer it, used as a second query.
        words: default number of words of passages in a prompt.
        noun: what a group is called.
        domain: what the questions are about, such as `contracts`: the report shows the judge's agreement with people if
            it was measured in this domain, and else says that it was not.
        evidence: the share of the evidence for an example's answer that a prediction was based on; NaN if unknown.
            Answers without evidence are not trained on, since they would teach the model to hallucinate.
        asks: names of task settings that change the questions but not the knowledge, so that the index is reused.
        labels: flags that take the user's own labelled items, with placeholders; the report recommends them.
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
    """A task with all defaults filled in; see `Task` for the attributes.

    Attributes:
        classes: the labels that an answer can be, in order; empty if the answer is not a label.
        output: the name of the program's answer field.
        outputs: the names of all its output fields, as far as they are known.
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
    outputs: tuple[str, ...] = ("answer",)


TaskFunction = Callable[..., Task]


def task(function: TaskFunction) -> TaskFunction:
    """Mark the function of a task file that builds its `Task`; its parameters become `--task.` flags."""
    function.__synth_dspy_task__ = True  # type: ignore[attr-defined]
    return function
