"""Cross-fitting: how many folds a run has, what they will take, and what is said of an arm that was made in each.

Where few questions are labelled, a single split wastes most of them. With k folds every labelled question is held out
once: k times an arm is compiled without one part of the groups and scored on it, and once more on all, which gives the
programs that the run ends with. A single split is one fold, in which only a part is held out. Whatever is equal in two
folds (prompts, calls, trainings) is done once: calls are found in the ledger, trainings by their fingerprint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import parse_json, read_part
from synth_dspy.core.knowledge import Knowledge
from synth_dspy.core.splits import FOLDS
from synth_dspy.evaluation.facts import ArmFacts, FoldFacts, ReferenceFacts, RowFacts, SplitFacts
from synth_dspy.evaluation.report.verdict import SMALL_SAMPLE
from synth_dspy.evaluation.results import cores
from synth_dspy.models.roles import EMBEDDED
from synth_dspy.models.weights import registry
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.arms import most_trainings
from synth_dspy.pipeline.context import Context
from synth_dspy.pipeline.datasets import Splits
from synth_dspy.training.optimizer import has_gpu
from synth_dspy.training.provider import has_weights, origin

FEWEST_GROUPS = 3
"""Labelled groups that cross-fitting needs."""
FEW_GROUPS = 8
"""With fewer labelled groups than this, a single split holds out one or two."""
CHOICES = (FOLDS, 3, 2)
"""Folds to choose from. With more of them, programs learn from more, and it takes longer."""
SOON = 15.0
"""Minutes within which the most folds are taken; if none are so quick, the fewest."""
CHOICE = "folds.json"
"""Notes in a run's folder how many folds it has, so that it has as many when it goes on."""
_TOKENS_A_WORD, _WORDS_BESIDES = 1.6, 100  # legal English; instructions, question and answer
_START_S = 45.0  # of a training: loading, merging and comparing the answers
_SMALL = 135e6  # weights of the model that these two were measured with, on two cores
_TRAINED, _ANSWERED = 150.0, 500.0  # tokens a second and core
_GPU_CORES = 200.0  # cores that a GPU is worth, about


@dataclass(frozen=True, slots=True)
class Plan:
    """The folds of a run.

    Attributes:
        folds: the splits of each; one for a single split.
        final: the splits without anything held out, whose programs the run ends with; None for a single split, which
            ends with its own.
        labelled: how many questions cross-fitting would score, where a single split was taken although it scores few.
    """

    folds: Sequence[Splits]
    final: Splits | None = None
    labelled: int | None = None


def plan_folds(context: Context, knowledge: Knowledge, single: Splits, names: Sequence[str]) -> Plan:
    """How the run divides its labelled questions; says what cross-fitting will take.

    Args:
        context: the run.
        knowledge: what is divided.
        single: the single split of it.
        names: the arms.

    Raises:
        SetupError: there are fewer labelled groups than folds.
    """
    items = {item.group for item in knowledge.items}
    labelled = [example for example in knowledge.labelled if example.group in items]
    groups, noun = len({example.group for example in labelled}), context.task.noun
    asked, most = context.config.splits.folds, context.bound("held_out")
    if asked is not None and asked > 1 and groups < max(FEWEST_GROUPS, asked):
        raise SetupError(
            f"Of {groups} {noun}s with labelled questions no {asked} folds can be made, which need at least "
            f"{max(FEWEST_GROUPS, asked)}: "
            + (
                f"set --splits.folds to {groups} or less."
                if groups >= FEWEST_GROUPS
                else "label some, or leave --splits.folds out."
            )
        )
    fits = asked is None and _is_few(context, labelled, single, groups, most)
    if not fits and asked in (None, 1):
        return Plan([single])
    cost = _Cost.of(context, len(labelled), names)
    folds = _chosen(context, groups, cost) if asked is None else asked
    if folds == 1:
        return Plan([single], labelled=min(len(labelled), most))
    *parts, final = datasets.cross_splits(knowledge, context.config.seed, folds, most)
    scored = sum(len(splits["test"].labelled) for splits in parts)
    alone = min(len(single["test"].labelled), most)
    context.say(
        f"Cross-fitting in {len(parts)} folds over {groups} {noun}s: each of {scored} labelled questions is held out "
        f"once, where a single split holds out {alone}. {cost.sentence(len(parts))} --splits.folds 1 is a "
        "single split."
    )
    return Plan(parts, final)


def _is_few(context: Context, labelled: Sequence[object], single: Splits, groups: int, most: int) -> bool:
    """Whether a single split would hold out too little of what is labelled."""
    held_out = len(single["test"].labelled)
    if context.config.quick or groups < FEWEST_GROUPS or most < SMALL_SAMPLE or held_out == len(labelled):
        return False
    return groups < FEW_GROUPS or held_out < SMALL_SAMPLE <= len(labelled)


def _chosen(context: Context, groups: int, cost: _Cost) -> int:
    """The number of folds where none is set: kept in the run's folder, for it depends on the machine."""
    path = context.run.folder / CHOICE
    possible = [folds for folds in CHOICES if folds <= groups]
    if path.exists() or (context.run.folder / "datasets" / "train.jsonl").exists():
        try:
            folds = parse_json(read_part(path))["folds"]
            return folds if folds in (1, *possible) else 1
        except (OSError, ValueError, LookupError, TypeError):
            return 1
    allowed = [folds for folds in possible if cost.is_allowed(folds)]
    folds = next((folds for folds in allowed if cost.is_within(SOON, folds)), allowed[-1] if allowed else 1)
    context.run.write_json(CHOICE, {"folds": folds})
    return folds


@dataclass(frozen=True, slots=True)
class _Cost:
    """What one compile of all arms takes, roughly.

    Attributes:
        trainings: the most trainings of all arms.
        arms: all of them.
        calls: model calls of making the rows and the arms.
        minutes: that each training may take.
        seconds_training: that one on all rows is expected to take, but for its start; None where models are hosted,
            whose speed and price are unknown.
        seconds_call: that a model call is expected to take.
    """

    trainings: int
    arms: int
    calls: int
    minutes: float
    seconds_training: float | None
    seconds_call: float

    @classmethod
    def of(cls, context: Context, labelled: int, names: Sequence[str]) -> _Cost:
        models, task = context.config.models, context.task
        trainings = most_trainings(task, names, context.config)
        written = context.bound("candidates") if task.synthesizer is not None else 0
        rows = labelled + written
        # Of each arm but the baseline: about a call for each row that is traced or chosen on.
        calls = written + (len(names) - 1) * (min(labelled + written, 32) + min(context.bound("validation"), labelled))
        minutes, training, call = context.config.training.minutes, None, 0.0
        if all(
            model in ("reference", "") or model.startswith(EMBEDDED)
            for model in (models.student, *models.compare, models.teacher, models.judge)
        ):
            call = _row_s(context) / _ANSWERED
            training = _training_s(context, rows)
        return cls(trainings, len(names), calls, minutes, training, call)

    def total_minutes(self, folds: int, scored: int) -> float | None:
        """Of so many folds and the compile on all labels."""
        if self.seconds_training is None:
            return None
        calls = (folds + 1) * self.calls + self.arms * scored
        # A fold's training is on the rows of the other folds, the last one on all: as many as `folds` times all.
        trained = self.trainings * (folds * self.seconds_training + (folds + 1) * _START_S)
        return (trained + calls * self.seconds_call) / 60

    def is_allowed(self, folds: int) -> bool:
        """Whether the time is within twice what the settings allow the trainings of a single split."""
        return self.is_within(2 * self.minutes * max(1, self.trainings), folds)

    def is_within(self, most: float, folds: int) -> bool:
        """Whether it is expected to take at most so many minutes."""
        minutes = self.total_minutes(folds, SMALL_SAMPLE)
        return minutes is not None and minutes <= most

    def sentence(self, folds: int) -> str:
        """What cross-fitting takes, in words."""
        if not self.trainings:
            return "What it takes is in the plan."
        number = (folds + 1) * self.trainings
        return f"It takes up to {number} trainings ({folds} folds and once on all labels); the rest is in the plan."


def expected_minutes(context: Context, rows: int) -> float:
    """Minutes of a training of the student on so many rows, with its start, by the model's size and the cores here."""
    return (_START_S + _training_s(context, rows)) / 60


def _training_s(context: Context, rows: int) -> float:
    """Seconds of a training, but for its start."""
    return min(rows * _row_s(context) / _TRAINED, 60 * context.config.training.minutes)


def _row_s(context: Context) -> float:
    """Seconds for a row, at one token of the small model a second and core."""
    parallel = _GPU_CORES if has_gpu() else cores()
    tokens = _TOKENS_A_WORD * ((context.config.words or context.task.words) + _WORDS_BESIDES)
    return tokens * _weights(context.config.models.student) / _SMALL / parallel


def _weights(model: str) -> float:
    """How many weights an embedded model has, about, by its files' size."""
    if not has_weights(model):
        return 0.0
    path = registry.resolve(origin(model)[0])
    if path.is_dir():
        return sum(file.stat().st_size for file in path.glob("*.safetensors")) / 2
    return path.stat().st_size / 0.7  # a quantised file


def fold_context(context: Context, number: int) -> Context:
    """What a fold's stations work with: the run's, but for a folder of its own, `folds/<number>`."""
    run = replace(context.run, folder=context.run.folder / "folds" / str(number))
    return Context(
        context.workspace,
        context.task,
        context.config,
        run,
        context.ledger,
        context.bars,
        context.command,
        context.notes,
    )


def merge_arms(folds: Sequence[Sequence[ArmFacts]], final: Sequence[ArmFacts]) -> tuple[list[ArmFacts], list[str]]:
    """What the report says of arms: as they were made of all labels, with the time of every fold.

    Args:
        folds: by fold, the arms' facts.
        final: of the compile on all labels.

    Returns:
        The facts, and sentences about arms that failed in some folds. An arm failed if it did in every fold.
    """
    merged, sentences = [], []
    for number, facts in enumerate(final):
        made = [arms[number] for arms in folds]
        failed = {fold: arm.failed for fold, arm in enumerate(made, start=1) if arm.failed}
        if failed and len(failed) < len(made):
            where = ", ".join(map(str, failed))
            sentences.append(
                f"{facts.name} could not be made in fold{'s' if len(failed) > 1 else ''} {where} of {len(made)} and is "
                f"scored on the questions of the others: {next(iter(failed.values()))}"
            )
        elif facts.failed and not failed:
            sentences.append(
                f"{facts.name} is scored, but could not be made of all labels, so there is no program of it: "
                f"{facts.failed}"
            )
        seconds = math.fsum(arm.compile_seconds or 0.0 for arm in (*made, facts))
        why = made[0].failed if len(failed) == len(made) else None
        same_as = facts.same_as if all(arm.same_as == facts.same_as for arm in made) else None
        merged.append(replace(facts, failed=why, compile_seconds=seconds, same_as=same_as))
    return merged, sentences


def merge_rows(folds: Sequence[RowFacts], final: RowFacts, labelled: int) -> RowFacts:
    """Where rows come from: those learned from are of the compile on all labels, those scored of every fold.

    Args:
        folds: the facts of each.
        final: of the compile on all labels.
        labelled: how many questions could have been scored.
    """
    tests = [facts.splits["test"] for facts in folds]
    test = SplitFacts(
        sum(split.groups for split in tests), sum(split.items for split in tests), labelled, tests[0].origin
    )
    counts = [facts.contamination or {} for facts in folds]
    found = {kind: sum(count.get(kind, 0) for count in counts) for kind in counts[0]}
    splits, unread = {**final.splits, "test": test}, sum(facts.unread for facts in folds)
    return replace(final, held_out=folds[0].held_out, splits=splits, contamination=found, unread=unread)


def merge_references(folds: Sequence[Sequence[ReferenceFacts]]) -> list[ReferenceFacts]:
    """What stands beside the arms: a trivial answer is that of each fold's training rows."""
    merged: dict[str, ReferenceFacts] = {}
    for facts in (facts for fold in folds for facts in fold):
        there = merged.setdefault(facts.name, facts)
        if facts.answer is not None and facts.answer not in (there.answer or "").split(" / "):
            merged[facts.name] = replace(there, answer=f"{there.answer} / {facts.answer}")
    return list(merged.values())


def fold_facts(splits: Splits, rows: Mapping[str, Sequence[object]]) -> FoldFacts:
    """What the report says of a fold."""
    return FoldFacts(splits["test"].groups, len(rows["train"]), len(rows["dev"]), len(rows["test"]))
