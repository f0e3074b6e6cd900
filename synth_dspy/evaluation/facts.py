"""Facts about a run for its report, other than scores: one value from each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from synth_dspy.core.knowledge import Skipped
from synth_dspy.core.training_facts import DiscardedTraining, TrainingFacts
from synth_dspy.evaluation.records import JudgeRecord
from synth_dspy.evaluation.retention.measure import Retained
from synth_dspy.evaluation.scores import Score
from synth_dspy.evaluation.spending import Spending
from synth_dspy.synthesis.pipeline import YieldTable

HeldOut = Literal["human-labelled", "synthetic"]
ReferenceKind = Literal["silent", "frequent", "prompts"]


@dataclass(frozen=True, slots=True)
class SplitFacts:
    """A split: the number of groups and rows used, of rows available, and their origin in words."""

    groups: int
    items: int
    available: int | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The origin of the rows.

    Attributes:
        held_out: the origin of the held-out items; None if unknown.
        splits: by name, `train`, `dev` and `test`.
        synthesis: the yield of candidates for training rows; None without synthesis.
        contamination: numbers of rows checked and of matches with held-out items, by kind; None if unchecked.
        skipped: what was not read, and what was read but lacks something.
        unread: how many of the items that arms are scored on no person has read.
    """

    held_out: HeldOut | None = None
    splits: Mapping[str, SplitFacts] = field(default_factory=dict)
    synthesis: YieldTable | None = None
    contamination: Mapping[str, int] | None = None
    skipped: Sequence[Skipped] = ()
    unread: int = 0


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """How an arm was made.

    Attributes:
        name: the arm's.
        optimizer: class of its optimizer; `none` for the program as it is.
        description: a line on the optimizer.
        compile_seconds: duration.
        demos: demonstrations in its prompts.
        failed: the error, if it could not be made.
        training: how its weights were tuned; None for a prompt arm.
        model: the model string of its generator, if that is not the run's student.
        discarded: its own training, if it is the model that this started from.
        same_as: the arm that has the same program, if its training was discarded.
    """

    name: str
    optimizer: str | None = None
    description: str | None = None
    compile_seconds: float | None = None
    demos: int | None = None
    failed: str | None = None
    training: TrainingFacts | None = None
    model: str | None = None
    discarded: DiscardedTraining | None = None
    same_as: str | None = None


@dataclass(frozen=True, slots=True)
class ReferenceFacts:
    """A reference row; see `evaluation.reference_rows`.

    Attributes:
        name: its name in the report.
        kind: its kind.
        answer: its answer to every question; None for the baseline under DSPy's adapter.
        skipped: why it is left out; empty if it is not.
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
    """Facts from the stages of a run, or of an evaluation of saved programs.

    Attributes:
        baseline: the arm that the others are compared with.
        arms: in their order.
        rows: the origin of the rows.
        variants: the arm of each variant with demonstrations in its prompt, by the variant's name.
        references: the reference rows.
        retained: what the student (`student`) and each tuned arm can do outside the task; empty if not measured.
        notes: sentences that come before the report's own.
        seconds: duration of each stage, by name, in order; None if not measured.
        wall_s: duration of the run.
        command: the command that was typed.
        every_pair: whether all arms are compared with each other, not with the baseline alone.
        folds: of cross-fitting; empty for a single split.
        labelled: how many questions cross-fitting would score, where a single split was taken although it scores few.
        spending: what the run has spent, by role.
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
    spending: Sequence[Spending] = ()


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """Facts from the task's declaration.

    Attributes:
        name: the task's.
        noun: the word for a group.
        objective: what the optimizers maximised: `judged`, or the name of a score.
        labels: flags for the user's own labelled items.
        scores: the metrics' scores.
        classes: the possible labels; empty if the answer is not a label.
        measured: the name of the headline's score if it is measured rather than a judge's estimate; else empty.
        judge: its name, its threshold, the task's domain, and its agreement with people if measured there.
        passage_judges: the same for judges of answers with their passages, by the names of their scores.
    """

    name: str
    noun: str = "document"
    objective: str = "judged"
    labels: str = ""
    scores: Sequence[Score] = ()
    classes: Sequence[str] = ()
    measured: str = ""
    judge: JudgeRecord | None = None
    passage_judges: Mapping[str, JudgeRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """The CPU's name, how many of its cores this process may use, and the precision that models here compute in."""

    cpu: str
    cores: int
    precision: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The circumstances of a run.

    Attributes:
        run_id: its name.
        seed: for everything random.
        models: model strings by role.
        versions: versions of libraries.
        concurrency: concurrent calls.
        date: when it ended.
        machine: the machine.
        peak_rss_mb: peak memory of this process.
    """

    run_id: str | None = None
    seed: int = 0
    models: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    concurrency: int | None = None
    date: str | None = None
    machine: Machine | None = None
    peak_rss_mb: float | None = None
