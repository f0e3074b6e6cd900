"""The plan of a compile: its steps with the rates of the task's former runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from statistics import mean

from synth_dspy.core.config import CompileConfig, Models, Training
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object, read_toml
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.run import CONFIG
from synth_dspy.core.sagemaker import START_MINUTES, hourly_price
from synth_dspy.core.text import counted
from synth_dspy.domains.documents.proposals import ROUNDS
from synth_dspy.evaluation.answers import ModelFree
from synth_dspy.evaluation.reference_rows import adapter_items, under_adapter
from synth_dspy.models.prices import Price, given_price, list_price
from synth_dspy.models.roles import EMBEDDED
from synth_dspy.pipeline.arms import most_trainings, trains_weights
from synth_dspy.pipeline.context import Context
from synth_dspy.pipeline.datasets import Splits
from synth_dspy.pipeline.folds import expected_minutes
from synth_dspy.pipeline.generators import Generator, Outside
from synth_dspy.pipeline.plan import FREE, Rate, Step, Trainings, describe, former_rate, measured_rate
from synth_dspy.pipeline.proposals import WANTED
from synth_dspy.pipeline.rows import wanted_candidates
from synth_dspy.training.optimizer import QUICK_EXAMPLES

CALLS_PER_PROMPT_ARM = 4
"""Answers to each validation question while prompts are chosen, where no former run says otherwise."""

CHOOSE = ("student", "teacher")
"""The roles that are called while prompts are chosen."""


def describe_compile(
    context: Context,
    names: Sequence[str],
    folds: Sequence[Splits],
    final: Splits | None,
    *,
    generators: Mapping[str, Generator],
) -> str:
    """The plan of a compile, as a paragraph.

    Args:
        context: the run.
        names: its arms, the baseline included.
        folds: the splits whose held-out questions are scored.
        final: the splits that the arms are compiled on once more, with all labels, if they are.
        generators: of the arms that have another student.
    """
    config, task = context.config, context.task
    runs = former_runs(context.run.folder)
    weights = [name for name in names if trains_weights(task.optimizers[name])]
    baseline = task.optimizers[names[0]]
    declared = [name for name in names if (arm := task.optimizers[name]) is baseline or isinstance(arm, Outside)]
    students = {"student": config.models, **{each.model: each.config.models for each in generators.values()}}
    arms = {
        student: [name for name in names if (generators[name].model if name in generators else "student") == student]
        for student in students
    }
    every = [*folds, *([] if final is None else [final])]
    rounds, candidates = len(every), [wanted_candidates(context, splits) for splits in every]
    labelled = sum(len(fold["test"].labelled) for fold in folds)
    held_out = min(context.bound("held_out"), labelled) if labelled else context.bound("candidates")
    many = config.concurrency
    prices = {role: price_of(config.models, role) for role in ("teacher", "judge")}
    chosen = _choice_rates(runs) or {"student": Rate(per_item=CALLS_PER_PROMPT_ARM * context.bound("validation"))}
    steps = [
        Step(
            "synthesis, teacher",
            sum(sum(each.values()) for each in candidates),
            former_rate(runs, _candidates, station="synthesis", role="teacher"),
            prices["teacher"],
            many,
        ),
    ]
    for student, models in students.items():
        prompts = [name for name in arms[student] if name not in weights and name not in declared]
        price = price_of(models, "student")
        if "student" in chosen:
            steps.append(Step(f"choice of prompts, {student}", len(prompts) * rounds, chosen["student"], price, many))
        if "teacher" in chosen:
            name = "choice of prompts, teacher" + ("" if student == "student" else f" for {student}")
            steps.append(Step(name, len(prompts) * rounds, chosen["teacher"], prices["teacher"], many))
        rate = former_rate(runs, station="evaluation", role="student")
        steps.append(Step(f"evaluation, {student}", len(arms[student]) * held_out, rate, price, many))
    if not config.quick:
        sizes = [len(fold["test"].labelled) for fold in folds] if labelled else [held_out]
        other = under_adapter(names[0])
        rate = former_rate(runs, station="evaluation", arm=other)
        number = sum(min(size, held_out, adapter_items(min(size, held_out))) for size in sizes)
        price = price_of(config.models, "student")
        steps.append(Step(f"evaluation, {other}, if its prompts differ", number, rate, price, many))
    judged = config.models.judge != "reference"
    unused = task.judge.how if judged and isinstance(task.judge, ModelFree) else None
    if judged and unused is None:
        rate = former_rate(runs, station="evaluation", role="judge")
        steps.append(Step("evaluation, judge", len(names) * held_out, rate, prices["judge"], many))
    trainings = most_trainings(task, names, config) * rounds
    written = candidates[0]["train"] if candidates else 0
    rows = QUICK_EXAMPLES if config.quick else len(folds[0]["train"].labelled) + written if folds else written
    each = _measured_minutes(runs, config) or expected_minutes(context, rows)
    plan = describe(steps, _trainings(config.training, trainings, each))
    if unused is not None:
        plan += f"\n  judge: not called, since answers are scored {unused} here ({config.models.judge} costs nothing)"
    if answered := sum(each["calls"] for each in context.ledger.totals("role")):
        plan += f"\n  of these, {counted(answered, 'call')} answered already will not be made again"
    return plan


def describe_proposing(context: Context) -> str:
    """The plan of a compile that proposes questions, and then waits until somebody has reviewed them."""
    rate = former_rate(former_runs(context.run.folder), station="synthesis", role="teacher")
    price = price_of(context.config.models, "teacher")
    step = Step("proposing questions, teacher", ROUNDS[0] * WANTED, rate, price, context.config.concurrency)
    plan = describe([step])
    return f"{plan}\n  then the questions wait for your review; the next compile shows the plan of the comparison"


def _measured_minutes(runs: Iterable[Path], config: CompileConfig) -> float | None:
    """Minutes of a training in the latest run of the same student that was quick, or not, as this one is.

    Loading, merging and checking the model are in it: in a quick run they take most of the time.
    """
    for run in runs:
        with suppress(SetupError, LookupError, TypeError, AttributeError):
            started = read_toml(run / CONFIG, "The settings")
            if (started.get("quick", False), started["models"]["student"]) != (config.quick, config.models.student):
                continue
            arms = read_json_object(run / "measurements.json")["arms"].values()
            # A resumed run has the training's own time, and next to none of the arm's.
            trained = [max(arm["compile_seconds"], arm["training"]["seconds"]) for arm in arms if arm.get("training")]
            if trained:
                return float(mean(trained)) / 60
    return None


def _trainings(settings: Training, number: int, each: float) -> Trainings:
    """So many trainings: at most at their limits of time, and of `each` minutes if they are made here."""
    minutes = number * settings.minutes
    if settings.backend == "local" or not number:
        return Trainings(minutes, expected=min(number * each, minutes))
    machine = settings.sagemaker
    price, source = hourly_price(machine.instance, machine.price)
    minutes += number * START_MINUTES
    where = f"{counted(number, 'job')} on {machine.instance} with {START_MINUTES:g} minutes of start each"
    if price is None:
        return Trainings(minutes, f"{where}, at a price that is not known here (training.sagemaker.price)")
    where += f", ${price:g} an hour ({source}){', less on spot' if machine.spot else ''}"
    return Trainings(minutes, where, price * minutes / 60)


def price_of(models: Models, role: str) -> Price | None:
    """The price of a role's model: as set, or the list price; `FREE` if it is embedded, None if it has none."""
    model = getattr(models, role)
    if model.startswith(EMBEDDED) or model == "reference":
        return FREE
    return given_price(models.options.get(role, {}).get("price"), role) or list_price(model)


def former_runs(run: Path) -> list[Path]:
    """The other runs of a run's task, the latest first."""
    others: Iterable[Path] = (ledger.parent for ledger in run.parent.glob(f"*/{LEDGER}") if ledger.parent != run)
    return sorted(others, key=lambda folder: folder.name, reverse=True)


def _candidates(run: Path) -> int:
    """How many candidates a run has written."""
    files = chain(run.glob("datasets/candidates-*.jsonl"), run.glob("folds/*/datasets/candidates-*.jsonl"))
    return sum(file.read_bytes().count(b"\n") for file in files)


def _choice_rates(runs: Iterable[Path]) -> dict[str, Rate]:
    """By role, the calls of compiling an arm's prompts once, in the latest run that did; none where none did."""
    for run in runs:
        if (of_arm := measured_rate(run, station="arms")) is None:
            continue
        whole = measured_rate(run, 1, station="arms") or of_arm
        rounds = len(list(run.glob("folds/*"))) + 1  # an arm's calls are those of all folds
        made = rounds * whole.per_item / of_arm.per_item
        rates = {role: measured_rate(run, made, station="arms", role=role) for role in CHOOSE}
        return {role: rate for role, rate in rates.items() if rate is not None}
    return {}
