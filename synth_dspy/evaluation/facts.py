"""What the report of a run says besides the scores: a value of each station's, put together once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from synth_dspy.core.knowledge import Skipped
from synth_dspy.evaluation.records import JudgeRecord
from synth_dspy.evaluation.retention.measure import Retained
from synth_dspy.evaluation.scores import Score
from synth_dspy.synthesis.pipeline import YieldTable
from synth_dspy.training.facts import TrainingFacts

HeldOut = Literal["human-labelled", "synthetic"]
ReferenceKind = Literal["silent", "frequent", "prompts"]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """A split: the groups and rows that are used, how many rows there are, and whence they come, in words."""

    groups: int
    items: int
    available: int | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """Where rows come from.

    Attributes:
        held_out: who wrote the items that arms are scored on; None where nobody knows.
        splits: by name, `train`, `dev` and `test`.
        synthesis: what became of the candidates for training rows; None without synthesis.
        contamination: rows that were checked and those that repeated a held-out item, by kind of match; None where
            none were looked for.
        skipped: files that were not read.
    """

    held_out: HeldOut | None = None
    splits: Mapping[str, SplitFacts] = field(default_factory=dict)
    synthesis: YieldTable | None = None
    contamination: Mapping[str, int] | None = None
    skipped: Sequence[Skipped] = ()


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """How an arm was made.

    Attributes:
        name: the arm's.
        optimizer: class of its optimizer; `none` for the program as it is.
        description: of the optimizer, a line.
        compile_seconds: that it took.
        demos: demonstrations in its prompts.
        failed: why it could not be made; None if it could.
        training: of its weights; None for a prompt arm.
    """

    name: str
    optimizer: str | None = None
    description: str | None = None
    compile_seconds: float | None = None
    demos: int | None = None
    failed: str | None = None
    training: TrainingFacts | None = None


@dataclass(frozen=True, slots=True)
class ReferenceFacts:
    """A row beside the arms; see `evaluation.reference_rows`.

    Attributes:
        name: what the report calls it.
        kind: what it is.
        answer: what it answers to every question; None for the baseline under DSPy's adapter.
        skipped: why its answers do not count; empty where they do.
    """

    name: str
    kind: ReferenceKind
    answer: str | None = None
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class FoldFacts:
    """A fold of cross-fitting: the groups that it held out, and how many rows were learned from, chosen on, scored."""

    groups: Sequence[str]
    train: int
    dev: int
    test: int


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the stations of a run, or of an evaluation of saved programs, have to say.

    Attributes:
        baseline: the arm that the others are compared with.
        arms: in their order.
        rows: where the rows come from.
        variants: arms with demonstrations in their prompts, by name: the arm that each is one of.
        references: what stands beside the arms.
        retained: what the student (`student`) and each tuned arm can do besides the task; empty where nothing was
            measured.
        notes: sentences that come before the report's own.
        seconds: that each station took, by name, in order; None where they were not measured.
        wall_s: that all of it took.
        command: what was typed.
        every_pair: whether all arms are compared with each other, not with the baseline alone.
        folds: of cross-fitting; empty for a single split.
        labelled: how many questions cross-fitting would score, where a single split was taken although it scores few.
    """

    baseline: str
    arms: Sequence[ArmFacts] = ()
    rows: RowFacts = RowFacts()
    variants: Mapping[str, str] = field(default_factory=dict)
    references: Sequence[ReferenceFacts] = ()
    retained: Mapping[str, Retained] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: Mapping[str, float] | None = None
    wall_s: float | None = None
    command: str | None = None
    every_pair: bool = False
    folds: Sequence[FoldFacts] = ()
    labelled: int | None = None


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What was declared.

    Attributes:
        name: the task's.
        noun: what a group is called.
        objective: what the optimizers climbed: `judged`, or the name of a score.
        labels: flags that give labelled items of the user's own.
        scores: of its metrics.
        classes: the labels that an answer can be; empty where it is none.
        measured: what the headline's score is called where it is measured and no judge's estimate; else empty.
        judge: its name, and its agreement with people where that is known.
    """

    name: str
    noun: str = "document"
    objective: str = "judged"
    labels: str = ""
    scores: Sequence[Score] = ()
    classes: Sequence[str] = ()
    measured: str = ""
    judge: JudgeRecord | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """The CPU's name, how many of its cores this process may use, and the precision that models here compute in."""

    cpu: str
    cores: int
    precision: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How a run was run.

    Attributes:
        run_id: its name.
        seed: of everything that is drawn.
        models: model strings by role.
        versions: of libraries.
        concurrency: calls under way at once.
        date: when it ended.
        machine: where.
        peak_rss_mb: most memory of this process.
    """

    run_id: str | None = None
    seed: int = 0
    models: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    concurrency: int | None = None
    date: str | None = None
    machine: Machine | None = None
    peak_rss_mb: float | None = None
