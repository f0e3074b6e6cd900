"""The three files of a run as types: predictions.jsonl, results.json, measurements.json.

They are the files' format. Keys that were added later, or that some runs do not have, may be missing, so that older
runs can still be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from synth_dspy.evaluation.spending import Spending
from synth_dspy.synthesis.pipeline import YieldTable


class PassageRecord(TypedDict):
    """A retrieved passage."""

    text: str
    id: NotRequired[str]


class Expected(TypedDict, total=False):
    """Optional fields of a prediction."""

    expected: Any
    fold: int


class Prediction(Expected):
    """A line of predictions.jsonl: an arm's answer to a held-out item, its scores, and what it cost.

    `references` are the accepted answers (empty: the right answer is to abstain), `expected` one of them as a JSON
    value; `scores` are in [0, 1], None if one does not apply. `fold` is the fold, from 1 on, that held out
    the item.
    """

    arm: str
    id: str
    group: str
    category: str
    answer_type: str
    question: str
    references: list[str]
    prediction: str
    abstained: bool
    passages: list[PassageRecord]
    latency_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cpu_s: float | None
    cost_usd: float | None
    retries: NotRequired[int | None]
    error: str | None
    scores: dict[str, float | None]


class EstimateRecord(TypedDict):
    """A mean with its 95 % interval; None without an item."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


Outcome = Literal["right", "right_unsupported", "wrong", "hallucinated", "abstained_right", "abstained_wrong"]
"""The outcome of a question.

right, right_unsupported: agrees with the references; supported by the passages the program was given, or not.
wrong: disagrees with the references, but the passages support it (or support was not scored): misread, or taken from
    the wrong passage.
hallucinated: disagrees with the references, and the passages do not support it.
abstained_right, abstained_wrong: the program abstained; the question has no right answer, or has one.
"""


class OutcomeRecord(TypedDict):
    """Counts of right and wrong answers, and of right and wrong abstentions.

    Where support by passages was scored, `hallucinated` counts the wrong answers without it, `right_unsupported` the
    right ones without it.
    """

    right: int
    wrong: int
    abstained_right: int
    abstained_wrong: int
    hallucinated: NotRequired[int]
    right_unsupported: NotRequired[int]


class AbstentionRecord(TypedDict):
    """Counts of items to abstain from, of abstentions, and of right abstentions."""

    f1: EstimateRecord
    must: int
    did: int
    right: int
    precision: float | None
    recall: float | None
    accuracy: float | None


class TrainingRecord(TypedDict):
    """How an arm's weights were tuned; see `core.training_facts`."""

    method: str | None
    learning_rate: float | None
    rank: int | None
    by_origin: dict[str, int] | None
    dev_loss: float | None
    tokens: int | None
    epochs: float | None
    steps: int | None
    stopped: str | None
    rows: int | None
    available: int | None
    dropped: dict[str, int]
    adapters: list[str]
    loss: dict[str, float | None] | None
    parity: dict[str, float | None] | None
    reward: NotRequired[str]


class DiscardedRecord(TypedDict):
    """A training whose result the arm does not use, and why; see `core.training_facts.DiscardedTraining`."""

    training: TrainingRecord
    why: str


class ScoredRecord(TypedDict):
    """Scores of answers; `corrected` is the share of right ones, where the judge's errors were measured."""

    scores: dict[str, EstimateRecord]
    corrected: NotRequired[EstimateRecord]


class ArmRecord(ScoredRecord):
    """An arm: how it was made, its scores by kind, and counts of its answers.

    `training` is that of the weights that it has. If its own was `discarded`, these are those of the model that it
    started from; `same_as` is the arm with the same program, whose comparisons are its own too.
    """

    name: str
    optimizer: str | None
    description: str | None
    demos: int | None
    failed: str | None
    training: TrainingRecord | None
    discarded: NotRequired[DiscardedRecord]
    same_as: NotRequired[str]
    model: NotRequired[str]
    n: int
    errors: int
    yes_no: dict[str, EstimateRecord]
    retrieval: dict[str, EstimateRecord]
    further: dict[str, EstimateRecord]
    abstention: AbstentionRecord
    outcomes: NotRequired[OutcomeRecord]
    tokens: dict[str, float | None]


class ReferenceRecord(ScoredRecord):
    """A row beside the arms."""

    name: str
    kind: str
    answer: str | None
    skipped: str
    n: int
    errors: int
    outcomes: OutcomeRecord
    further: dict[str, EstimateRecord]


class PairRecord(TypedDict):
    """Two arms compared by a score, on the items that both answered; figures are None without such items."""

    arm: str
    against: str
    n: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    smallest_detectable: float | None
    outcome: str


class RawRecord(TypedDict):
    """A difference of shares as the judge has them, before they are corrected for its mistakes."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None


class ComparisonRecord(PairRecord):
    """A comparison in a report."""

    score: NotRequired[str]
    units: int
    unit: str
    relative_percent: float | None
    sentence: str
    raw: NotRequired[RawRecord]


class VerdictRecord(TypedDict):
    """The report's first lines; see `report.verdict`."""

    best: str | None
    highest: str | None
    outcome: str
    headline: str
    detail: str


class ItemsRecord(TypedDict):
    """Counts of items, by kind."""

    n: int
    headline: int
    yes_no: int
    unanswerable: int
    groups: int


class MethodRecord(TypedDict):
    """The methods of intervals and tests."""

    unit: str
    groups: int
    interval: str
    test: str
    correction: str
    pairs: str
    resamples: int


class SplitRecord(TypedDict):
    """A split."""

    groups: int
    items: int
    available: NotRequired[int | None]
    origin: NotRequired[str]


class FoldRecord(TypedDict):
    """A fold of cross-fitting: the groups that it held out, and its rows."""

    groups: list[str]
    train: int
    dev: int
    test: int


class JudgeRecord(TypedDict, total=False):
    """The judge, and its agreement with people if that was measured on answers such as the task's.

    `threshold` is the lowest score of an answer that it calls right; without it, the figures are means of scores. See
    `agreement.Agreement` for `domain` to `specificity`.
    """

    name: str
    threshold: float
    domain: str
    graded: str
    n_right: int
    n_wrong: int
    sensitivity: float | None
    specificity: float | None
    n: int
    kappa: float | None
    kappa_interval: list[float]
    auroc: float | None
    auroc_interval: list[float]
    accuracy: float | None
    source: str


class BreakdownRecord(TypedDict):
    """Scores of the items of one kind, by arm."""

    value: str
    n: int
    arms: dict[str, dict[str, EstimateRecord]]


class LabelRecord(TypedDict):
    """An arm's classification figures; see `report.classification`."""

    macro_f1: EstimateRecord
    matrix: list[list[int]]


VariantSide = dict[str, EstimateRecord | float | None]
"""Scores by name, and `prompt_tokens`, the mean."""
VariantRecord = TypedDict("VariantRecord", {"name": str, "of": str, "without": VariantSide, "with": VariantSide})
"""An arm without and with demonstrations in its prompt, on the items that both answered."""


class ClassificationRecord(TypedDict):
    """How the arms label."""

    classes: list[str]
    arms: dict[str, LabelRecord]


class SavedTokens(TypedDict):
    """Mean prompt tokens of a tuned arm, against those of an arm with demonstrations."""

    arm: str
    n: int
    before: float
    after: float
    saved: float
    percent: float


class SavedTokensRecord(TypedDict):
    """The tokens that a shorter prompt saves."""

    against: str
    arms: list[SavedTokens]


class FollowedRecord(TypedDict):
    """Instructions followed; see `retention.measure`."""

    n: int | None
    prompt_strict: float | None
    low: float | None
    high: float | None
    instruction_strict: float | None
    errors: int | None


class PerplexityRecord(TypedDict):
    """Perplexity of general text."""

    value: float | None
    tokens: int | None


class FollowedChange(TypedDict):
    """The difference in the share of prompts followed."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    p_holm: NotRequired[float | None]


class PerplexityChange(TypedDict):
    """The relative change of perplexity, in per cent."""

    percent: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    p_holm: NotRequired[float | None]


class ChangeRecord(TypedDict):
    """What tuning changed outside the task."""

    ifeval: FollowedChange | None
    perplexity: PerplexityChange | None


class RetentionRecord(TypedDict):
    """What a model can do outside the task, and for a tuned one the change from before."""

    model: str
    ifeval: FollowedRecord | None
    perplexity: PerplexityRecord | None
    change: NotRequired[ChangeRecord]


class Results(TypedDict):
    """results.json: equal for equal answers."""

    task: str | None
    noun: str
    scores: list[str]
    baseline: str
    labels: NotRequired[str]
    seed: int
    models: dict[str, str]
    versions: dict[str, str]
    splits: dict[str, SplitRecord]
    folds: NotRequired[list[FoldRecord]]
    labelled: NotRequired[int]
    synthesis: YieldTable | None
    contamination: dict[str, int] | None
    held_out: str | None
    unread: NotRequired[int]
    judge: JudgeRecord | None
    support: NotRequired[str]
    passage_judges: NotRequired[dict[str, JudgeRecord]]
    skipped: list[dict[str, str]]
    items: ItemsRecord
    method: MethodRecord
    arms: list[ArmRecord]
    alike: list[list[str]]
    comparisons: list[ComparisonRecord]
    comparisons_own: NotRequired[list[ComparisonRecord]]
    comparisons_f1: NotRequired[list[ComparisonRecord]]
    reference_rows: NotRequired[list[ReferenceRecord]]
    comparisons_trivial: NotRequired[list[ComparisonRecord]]
    comparisons_prompts: NotRequired[list[ComparisonRecord]]
    variants: list[VariantRecord]
    tokens_saved: SavedTokensRecord | None
    retention: list[RetentionRecord]
    majority_yes_no: float | None
    breakdown: dict[str, list[BreakdownRecord]]
    score: NotRequired[str]
    score_labels: NotRequired[dict[str, str]]
    classification: NotRequired[ClassificationRecord]
    verdict: VerdictRecord
    notes: list[str]


class TrainingMeasured(TypedDict):
    """Time, speed and memory of a training."""

    seconds: float | None
    minutes: float | None
    all_rows_s: float | None
    tokens_per_second: float | None
    peak_rss_mb: float | None
    peak_gpu_mb: float | None
    device: str | None


class ArmMeasured(TypedDict):
    """What an arm took."""

    compile_seconds: float | None
    training: TrainingMeasured | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    cpu_s_per_item: float | None
    cost_usd_per_item: float | None
    retries: NotRequired[int]
    peak_rss_mb: NotRequired[float | None]


class StationRecord(TypedDict):
    """Duration of a stage of the run."""

    name: str
    seconds: float


class MachineRecord(TypedDict):
    """The machine; see `facts.Machine`."""

    cpu: str
    cores: int
    precision: str


class Measurements(TypedDict):
    """measurements.json: whatever differs between two equal runs."""

    run_id: str | None
    date: str | None
    machine: MachineRecord | None
    command: str | None
    concurrency: int | None
    wall_s: float | None
    peak_rss_mb: float | None
    stations: list[StationRecord] | None
    spending: NotRequired[list[Spending]]
    arms: Mapping[str, ArmMeasured]
