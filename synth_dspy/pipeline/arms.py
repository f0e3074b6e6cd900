"""Arms: every optimizer on the same program; each result is saved and described for the report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import dspy
from pydantic import Field, TypeAdapter, ValidationError

from synth_dspy.core.config import METHODS, WITHOUT_PPO, CompileConfig
from synth_dspy.core.errors import ArmError, SetupError, explain_failure
from synth_dspy.core.executor import Executor
from synth_dspy.core.protocols import Metric
from synth_dspy.core.resources import Resources
from synth_dspy.core.task import CompleteTask
from synth_dspy.core.training_facts import DiscardedTraining, TrainingFacts
from synth_dspy.core.validation import as_clause
from synth_dspy.evaluation.facts import ArmFacts
from synth_dspy.models.cluster.process import at_once
from synth_dspy.models.weights.trained import SPEC
from synth_dspy.pipeline import saved
from synth_dspy.pipeline.context import Context
from synth_dspy.pipeline.defaults import with_search
from synth_dspy.pipeline.generators import Generator, is_last
from synth_dspy.training.optimizer import (
    Configured,
    WeightOptimizer,
    attributes,
    has_gpu,
    is_large,
    merged,
    without_weights,
)
from synth_dspy.training.provider import LocalProvider, has_weights, training_facts
from synth_dspy.training.recipes.cpt import check_replay
from synth_dspy.training.spec import check_training_options, reward_file

log = logging.getLogger("synth_dspy.pipeline.arms")

OPENAI_TUNED = "ft:"
"""Prefix of the names of models tuned by OpenAI."""


def arm_names(task: CompleteTask, student: str, requested: Sequence[str] = ()) -> tuple[list[str], str | None]:
    """The arms to compare, and a note on those left out because the student's weights are not available.

    Args:
        task: declares the arms.
        student: the student's model string.
        requested: names, each perhaps several separated by commas; by default the task's arms.

    Returns:
        The names, the baseline first, and a sentence about those that are left out, or None.

    Raises:
        SetupError: a requested arm does not exist, or trains weights that are not available.
    """
    declared = list(task.optimizers)
    named = [name.strip() for names in requested for name in names.split(",") if name.strip()]
    names = named or task.arms or declared
    for name in names:
        if name == "ppo" and name not in declared:
            raise SetupError(WITHOUT_PPO)
        if name not in declared:
            raise SetupError(f"There is no arm {name!r}; this task has {', '.join(declared)}.")
    baseline = declared[0]
    names = [baseline, *dict.fromkeys(name for name in names if name != baseline)]
    untrainable = [name for name in names if trains_weights(task.optimizers[name])]
    if has_weights(student) or not untrainable:
        return names, None
    listed = f"The arms that train weights ({', '.join(untrainable)})"
    if named or baseline in untrainable:
        raise SetupError(f"{listed} cannot run: {without_weights(student)}.")
    return [name for name in names if name not in untrainable], f"{listed} are left out: {without_weights(student)}."


def arms_again(task: CompleteTask, config: CompileConfig, arm: str) -> tuple[str, ...]:
    """The arms to request of a run that is to make a saved arm again.

    Args:
        task: declares the arms.
        config: saved with the arm; of a compared model, it names that model as the student.
        arm: the arm's name, perhaps with a compared model's label: `sft (qwen)`.

    Returns:
        The names; all of the former run's for its baseline and for an arm that is made of the others.

    Raises:
        SetupError: the arm was made elsewhere.
    """
    optimizers = (with_search(task) if config.search else task).optimizers
    name = arm if arm in optimizers else arm.rpartition(" (")[0]
    if name not in optimizers:
        raise SetupError(
            f"The arm {arm} was made elsewhere, and no training here makes it again: name the arms to train with "
            f"--arms, of {', '.join(list(optimizers)[1:])}, and open a cycle with --now."
        )
    return config.evaluation.arms if name == next(iter(optimizers)) or is_last(optimizers[name]) else (name,)


def trains_weights(factory: Callable[..., Any]) -> bool:
    """Whether an arm's factory declares that its optimizer trains the student's weights; see `Task.optimizers`."""
    return bool(getattr(_unwrapped(factory), "trains_weights", False))


def most_trainings(task: CompleteTask, names: Sequence[str], config: CompileConfig) -> int:
    """The most trainings that one compile of these arms makes: each its own, and once what several begin with."""
    large = has_gpu() and is_large(config.models.student)
    own, first = 0, set[str | None]()
    for factory in (task.optimizers[name] for name in names if trains_weights(task.optimizers[name])):
        recipe, declared = _recipe(factory), factory.settings if isinstance(factory, Configured) else {}
        settings = merged(declared, config.training.options).get(getattr(recipe, "method", ""), {})
        own += 1 if config.quick else recipe.most_trainings(settings, large=large)  # which tries no second setting
        first.add(recipe.begins_with)
    return own + len(first - {None, *names})


def check_training(task: CompleteTask, options: Mapping[str, Mapping[str, Any]], workspace: Path | None = None) -> None:
    """Check the training settings before any work is done.

    Args:
        task: declares the recipes, which have settings of their own.
        options: settings by method.
        workspace: that rewards are imported from.

    Raises:
        SetupError: a setting does not exist, has a wrong value, or conflicts with the task; names it.
    """
    for name, factory in task.optimizers.items():
        settings = factory.settings if isinstance(factory, Configured) else {}
        for method, own_settings in settings.items():
            if method not in METHODS:
                raise SetupError(
                    f"The arm {name} has settings of {method!r}, which is not one of {', '.join(METHODS)}."
                )
            _check_fields(task, method, own_settings)
            reward_file(own_settings.get("reward"), workspace)
    for method, method_options in options.items():
        recipe, own = _check_fields(task, method, method_options)
        reward_file(method_options.get("reward"), workspace)
        if recipe is None:
            continue
        for name in sorted(own & method_options.keys()):
            _check_attribute(recipe, name, method_options[name], f"training.options.{method}.{name}")
        if method == "cpt":
            check_replay(method_options)
        factory = task.optimizers[method]
        task_token = factory.settings.get(method, {}).get("call_token") if isinstance(factory, Configured) else None
        if task_token is not None and method_options.get("call_token", task_token) != task_token:
            raise SetupError(
                f"training.options.{method}.call_token is {method_options['call_token']!r}, but the task's prompts and "
                f"replies use {task_token!r}: leave the former out, or set both alike."
            )


def _check_fields(
    task: CompleteTask, method: str, settings: Mapping[str, Any]
) -> tuple[type[WeightOptimizer] | None, frozenset[str]]:
    """Check that a method's settings are `TrainSpec` fields or its recipe's own; return the recipe and those names."""
    recipe = _recipe(task.optimizers[method]) if method in task.optimizers else None
    own = attributes(recipe) if recipe else frozenset()
    check_training_options(method, {name: value for name, value in settings.items() if name not in own}, own)
    return recipe, own


def _check_attribute(recipe: type[WeightOptimizer], name: str, value: Any, where: str) -> None:
    """Check the type of a recipe's own setting; counts (of examples, samples, rows) must not be negative."""
    count = Annotated[int, Field(ge=0)]
    kind = get_type_hints(recipe)[name]
    try:
        TypeAdapter({int: count, int | None: count | None}.get(kind, kind)).validate_python(value, strict=True)
    except ValidationError as error:
        raise SetupError(f"{where} is {value!r}: {as_clause(error.errors()[0]['msg'])}.") from error


def compile_arms(
    context: Context,
    names: Sequence[str],
    rows: Mapping[str, Sequence[dspy.Example]],
    resources: Resources,
    objective: Metric,
    provider: LocalProvider,
    generators: Mapping[str, Generator],
) -> tuple[dict[str, dspy.Module], list[ArmFacts]]:
    """Programs by arm, and how each arm was made; an arm that fails is reported, and the others go on.

    Arms that train weights are compiled side by side if a cluster has the resources.

    Args:
        context: the run.
        names: the arms.
        rows: `train` to learn from, `dev` to choose on.
        resources: for the optimizers and programs.
        objective: the metric that optimizers maximise.
        provider: trains the student; its progress is shown.
        generators: of the arms that have another student.

    Raises:
        SetupError: a failure that would stop every arm: no endpoint, no room on the disk.
    """
    made: dict[str, tuple[dspy.Module | None, ArmFacts]] = {}
    tuned: dict[str, dspy.Module] = {}

    def compile_one(name: str, progress: Callable[[int, int], None] | None) -> None:
        other = generators.get(name)
        shown = replace(resources if other is None else other.resources(resources), tuned=dict(tuned))
        made[name] = _compile_arm(context, name, rows, shown, objective, provider, progress, other)
        program = made[name][0]
        if program is not None and saved.tuned_model(program, shown.student) is not None:
            tuned[name] = program

    trained = [name for name in names if trains_weights(context.task.optimizers[name])]
    together = min(len(trained), at_once(provider.cluster))
    for name in names:
        if together >= 2 and name in trained:
            if name in made:
                continue
            with context.bars.bar(f"arms: {', '.join(trained)}", len(trained)) as bar:
                for outcome in Executor(together).map(lambda name: compile_one(name, None), trained, progress=bar):
                    outcome.unwrap()
        else:
            afterwards = "merging and checking the model" if name in trained else ""
            with context.bars.bar(f"arm: {name}", None, afterwards=afterwards) as bar:
                compile_one(name, bar.reach)
    programs = {name: program for name in names if (program := made[name][0]) is not None}
    facts = [made[name][1] for name in names]
    return programs, [replace(arm, same_as=_same_as(arm, facts, context.run.folder)) for arm in facts]


def _same_as(arm: ArmFacts, arms: Sequence[ArmFacts], run: Path) -> str | None:
    """The arm whose saved program an arm has whose training was discarded; of several such arms, the first is named."""
    if arm.discarded is None:
        return None
    same = [
        other
        for other in arms
        if not other.failed and saved.is_same(run / "programs" / arm.name, run / "programs" / other.name)
    ]
    first = min(same, key=lambda other: other.discarded is not None)
    return None if first.name == arm.name else first.name


def _compile_arm(
    context: Context,
    name: str,
    rows: Mapping[str, Sequence[dspy.Example]],
    resources: Resources,
    objective: Metric,
    provider: LocalProvider,
    progress: Callable[[int, int], None] | None,
    other: Generator | None,
) -> tuple[dspy.Module | None, ArmFacts]:
    """The program of an arm, None if it failed, and how it was made."""
    provider.progress = progress
    config = context.config if other is None else other.config
    program = context.task.program(resources)
    program.set_lm(resources.student)
    optimizer, began, failed = None, time.perf_counter(), None
    with dspy.context(lm=resources.student), context.ledger.unit(station="arms", arm=name):
        try:
            optimizer = context.task.optimizers[name](resources, objective)
            compiled = program
            if optimizer is not None:
                compiled = optimizer.compile(program, trainset=rows["train"], valset=rows["dev"])
            context.ledger.budget.check()  # an optimizer may take calls that were refused for failed ones
            if saved.tuned_model(compiled, resources.student) is None:
                _refuse_tuned_elsewhere(compiled)
                compiled.set_lm(resources.student)
            saved.save(context.run, name, compiled, config, context.workspace, declared=program)
            program = compiled
            if (wrong := getattr(objective, "failure", None)) is not None:
                raise wrong
        except SetupError:
            raise
        except Exception as error:
            context.ledger.budget.check()
            if (wrong := getattr(objective, "failure", None)) is not None:
                raise wrong from error
            failed = explain_failure(error)
            log.warning("arm %s failed", name, exc_info=error)
            context.bars.say(f"{name} failed: {failed}")
    discarded = getattr(optimizer, "discarded", None)
    facts = ArmFacts(
        name=name,
        optimizer=getattr(optimizer, "name", type(optimizer).__name__) if optimizer else "none",
        description=_description(optimizer),
        compile_seconds=time.perf_counter() - began,
        demos=sum(len(predictor.demos) for predictor in program.predictors()),
        failed=failed,
        training=None if failed else _training(program, resources.student),
        model=None if other is None else other.model,
        discarded=discarded if isinstance(discarded, DiscardedTraining) and not failed else None,
    )
    return (None if failed else program), facts


def _refuse_tuned_elsewhere(program: dspy.Module) -> None:
    """Raise an `ArmError` if a task's own recipe had OpenAI tune the student: this run would score the untuned one."""
    for predictor in program.predictors():
        if predictor.lm is not None and predictor.lm.model.startswith(OPENAI_TUNED):
            raise ArmError(
                f"Its provider tuned the student as {predictor.lm.model}: compare that model in a run of its own, with "
                f"--models.student openai/{predictor.lm.model}."
            )


def _description(optimizer: Any) -> str:
    """A line on an arm's optimizer for the report."""
    if optimizer is None:
        return "As declared."
    return str(getattr(optimizer, "description", (type(optimizer).__doc__ or "").split("\n")[0]))


def _unwrapped(factory: Any) -> Any:
    while isinstance(factory, partial):
        factory = factory.func
    return factory


def _recipe(factory: Callable[..., Any]) -> type[WeightOptimizer]:
    """The class of the recipe that a factory makes, or of its step that trains weights; the base class if unknown."""
    factory = _unwrapped(factory)
    factory = factory.recipe if isinstance(factory, Configured) else factory
    factory = getattr(factory, "weights", factory)
    return factory if isinstance(factory, type) and issubclass(factory, WeightOptimizer) else WeightOptimizer


def _training(program: dspy.Module, student: dspy.LM) -> TrainingFacts | None:
    """Facts about an arm's training; None for an arm that was not trained."""
    model = saved.tuned_model(program, student)
    return None if model is None or not (model.parent / SPEC).is_file() else training_facts(model.parent)
