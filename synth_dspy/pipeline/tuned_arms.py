"""Further measurements of tuned arms: whether demonstrations help, and what tuning cost outside the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dspy

from synth_dspy.core.config import Retention
from synth_dspy.core.errors import ModelError, SetupError, message_of
from synth_dspy.core.executor import Executor
from synth_dspy.core.progress import Bars
from synth_dspy.core.s3.reading import local
from synth_dspy.evaluation.retention import measure as retention
from synth_dspy.models import roles
from synth_dspy.models.weights import registry
from synth_dspy.pipeline import datasets, saved
from synth_dspy.training.adapters import CONFIG
from synth_dspy.training.optimizer import bare

Programs = Mapping[str, dspy.Module]


@dataclass(frozen=True, slots=True)
class Variant:
    """A tuned arm's program with demonstrations in its prompt, and the held-out examples to run it on."""

    name: str
    of: str
    program: dspy.Module
    examples: Sequence[dspy.Example]


def with_demonstrations(
    programs: Programs, student: dspy.LM, examples: Sequence[dspy.Example], few: int, seed: int
) -> list[Variant]:
    """Each tuned program with the demonstrations of the first prompt arm that has some.

    Args:
        programs: the arms' programs, by name.
        student: the LM before tuning.
        examples: the held-out examples.
        few: the most examples to use.
        seed: for choosing them.
    """
    shown = next((p for p in programs.values() if any(predictor.demos for predictor in p.predictors())), None)
    if shown is None or not few:
        return []
    some = datasets.spread(examples, few, seed)
    variants = []
    for name, program in programs.items():
        if saved.tuned_model(program, student) is None:
            continue
        variant = bare(program)
        for predictor, other in zip(variant.predictors(), shown.predictors(), strict=True):
            predictor.demos = list(other.demos)
        variants.append(Variant(f"{name} + demonstrations", name, variant, some))
    return variants


STUDENT = "student"


def compared_models(programs: Programs, student: dspy.LM) -> dict[str, tuple[dspy.LM, str | Path]]:
    """The student and the models tuned from it, each with its weights; empty if no arm was tuned.

    Args:
        programs: the arms' programs, by name.
        student: the LM before tuning.
    """
    tuned = {name: model for name, program in programs.items() if (model := saved.tuned_model(program, student))}
    if not tuned:
        return {}
    models: dict[str, tuple[dspy.LM, str | Path]] = {STUDENT: (student, student.model.removeprefix(roles.EMBEDDED))}
    return models | {name: (next(iter(programs[name].predictors())).lm, model) for name, model in tuned.items()}


def retained(
    name: str,
    lm: dspy.LM,
    weights: str | Path,
    settings: Retention,
    few: int,
    *,
    executor: Executor,
    bars: Bars,
    seed: int,
) -> tuple[retention.Retained | None, str | None]:
    """Followed instructions and perplexity of a model.

    Args:
        name: the arm's, or `STUDENT`.
        lm: the model.
        weights: its weights, as `compared_models` gives them.
        settings: whose prompts and text are used.
        few: the most prompts to use.
        executor: runs many calls at once.
        bars: shows the progress.
        seed: of the intervals.

    Returns:
        The figures (None if there are none), and a note on what could not be measured (or None).
    """
    prompts, text = retention_data(settings, few)
    measured = None
    with bars.bar(f"retention: {name}", len(prompts)) as bar:
        try:
            followed = retention.measure(lm, prompts, executor=executor, arm=name, seed=seed, progress=bar)
            measured = retention.Retained(followed)
            measured = retention.Retained(followed, _perplexity(weights, text))
        except (ModelError, SetupError) as error:  # the comparison is valid without it
            return (
                measured,
                f"What tuning cost {name} outside the task could not be measured in full: {message_of(error)}",
            )
    return measured, None


def _perplexity(weights: str | Path, text: str) -> retention.Perplexity:
    """Perplexity of a text under a model (by name) or under tuned weights.

    Raises:
        ModelError: it cannot be measured.
        SetupError: there is no such model, or it is hosted.
    """
    path = registry.resolve(weights)
    if (path / CONFIG).is_file():
        raise ModelError("perplexity is measured on merged weights, and vLLM serves this adapter unmerged.")
    return retention.perplexity(path, text)


def retention_data(settings: Retention, few: int | None = None) -> tuple[list[retention.Prompt], str]:
    """The prompts and the general text that the settings name, or the project's own.

    Raises:
        SetupError: a file is missing or malformed.
    """
    prompts = retention.read_prompts(
        (settings.ifeval and local(settings.ifeval)) or retention.DATA / "instructions.jsonl", few
    )
    return prompts, _read((settings.text and local(settings.text)) or retention.DATA / "general.txt")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"The general text {path} cannot be read: {error}.") from error
