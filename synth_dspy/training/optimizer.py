"""Weights as an optimizer: `compile(student, trainset, valset)` gives the same program with a tuned LM.

The arms of weights and those of prompts are interchangeable, and chain: a recipe is a DSPy teleprompter, so that
`dspy.BetterTogether` takes it as well. What a method trains on and with which settings stands in `optimizers/`.
"""

from __future__ import annotations

import importlib.util
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import dspy
from dspy.teleprompt import Teleprompter

from synth_dspy.core.errors import ArmError
from synth_dspy.core.protocols import Metric
from synth_dspy.core.resources import Resources, bounded
from synth_dspy.models.weights import registry
from synth_dspy.training.feedback import human_rows
from synth_dspy.training.provider import has_weights, origin, trained_sources, training_of
from synth_dspy.training.rows import Rows
from synth_dspy.training.spec import PROMPTS, Method
from synth_dspy.training.traces import Trace, collect, prompts

log = logging.getLogger("synth_dspy.training")

__all__ = [
    "Configured",
    "Method",
    "Settings",
    "WeightOptimizer",
    "attributes",
    "bare",
    "has_gpu",
    "learned_sources",
    "train",
    "without_weights",
]

Settings = Mapping[str, Any]
"""`TrainSpec` fields."""
NVIDIA = Path("/proc/driver/nvidia/version")
QUICK_EXAMPLES = 12
"""Training examples of a quick run."""
LARGE = 2 << 30
"""Bytes of weights from which on a model is trained with the settings for a large one."""


def has_gpu() -> bool:
    """Whether an NVIDIA driver is there; asked without loading torch."""
    return NVIDIA.exists()


def is_large(model: str) -> bool:
    """Whether a model's weights are here and take more than two GiB on disk."""
    if not has_weights(model):
        return False
    path = registry.resolve(origin(model)[0])
    return sum(file.stat().st_size for file in (path.glob("*.safetensors") if path.is_dir() else [path])) > LARGE


@dataclass(frozen=True)
class WeightOptimizer(Teleprompter):
    """Base of the recipes in `optimizers/lora_*.py`.

    The run's configuration (`[training.options.<method>]`) goes before what a recipe is made with: it may set the
    attributes after `metric`, and `TrainSpec` fields.

    Attributes:
        resources: the run's models and executor.
        metric: what an answer is accepted by, in [0, 1].
        examples: training examples to trace at most; None: all there are. A few in a quick run.
        samples: answers of the student to each.
        settings: `TrainSpec` fields that go before the recipe's own.
    """

    resources: Resources
    metric: Metric
    examples: int | None = None
    samples: int = 0
    settings: Settings = field(default_factory=dict)

    trains_weights: ClassVar[bool] = True
    """What an arm is recognised by before any work is done; see `Task.optimizers`."""
    method: ClassVar[Method]
    cpu: ClassVar[Settings] = {}
    """Settings for a small model on a few cores."""
    gpu: ClassVar[Settings] = {}
    """Settings for Llama 3 8B on one GPU of 24 GB or more."""

    def __post_init__(self) -> None:
        asked = self.resources.training.get(self.method, {})
        own = attributes(type(self))
        for name in own & asked.keys():
            object.__setattr__(self, name, asked[name])
        settings = {name: value for name, value in asked.items() if name not in own}
        object.__setattr__(self, "settings", {**self.settings, **settings})

    @classmethod
    def with_settings(cls, **by_method: Settings) -> Configured:
        """The recipe with a task's own settings: `LoraSft.with_settings(sft={"epochs": 2})`.

        Args:
            **by_method: as in `[training.options.<method>]`; a recipe that begins with another takes that one's too.
        """
        return Configured(cls, by_method)

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """Trace, make rows, train, and set the LM that comes of it on a copy of the program, without demonstrations.

        Raises:
            ArmError: the model's weights are not here, there is nothing to train on, or the training failed.
        """
        trainable_lm(student)
        if not trainset:
            raise ArmError("There are no training rows.")
        known = self.with_evidence(student, trainset)
        if not known:
            raise ArmError(
                "The program is given evidence for no training row's answer: raise --words, or check search."
            )
        program = bare(self.start(student, trainset, valset))
        made = self.rows(self.traced(program, self.chosen(program, known)))
        human = self.human(program)
        rows = [*made.rows, *human.rows]
        unfound = len(trainset) - len(known)
        counts = {
            "rows": len(rows),
            "by_origin": {**made.counts["by_origin"], **human.counts["by_origin"]},
            "dropped": {
                **({"evidence not found": unfound} if unfound else {}),
                **made.counts["dropped"],
                **{f"human: {why}": n for why, n in human.dropped.items()},
            },
        }
        log.info("%s: %s", self.method, counts)
        held_out = list(valset or ())[:PROMPTS]
        checked = prompts(program, held_out, self.resources.executor)[:PROMPTS]
        options = self.options()
        if options.get("patience"):
            options["dev"] = self.rows(self.traced(program, self.with_evidence(program, held_out))).rows
        return train(program, self.method, rows, counts=counts, prompts=checked, seed=self.resources.seed, **options)

    def options(self) -> dict[str, Any]:
        """`TrainSpec` fields: the recipe's for this machine and student, and `settings` before them."""
        own = self.gpu if has_gpu() and is_large(self.resources.student.model) else self.cpu
        options = {"minutes": self.resources.minutes, **own, **self.settings}
        if options.get("quantize") and importlib.util.find_spec("bitsandbytes") is None:
            log.warning("bitsandbytes is not installed: the base is not quantised (pip install 'synth_dspy[gpu]')")
            options["quantize"] = False
        return options

    def traced(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[Trace]:
        """What the program and its student say of the examples."""
        executor = self.resources.executor
        return collect(program, examples, executor=executor, score=self.score(), samples=self.samples)

    def start(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None
    ) -> dspy.Module:
        """The program to begin with; preferences begin with one that was tuned on references."""
        return student

    def with_evidence(self, program: dspy.Module, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        """The examples for whose answers the program is given evidence, where the task can tell."""
        if self.resources.evidence is None:
            return list(trainset)
        known = self.resources.evidence_by_id
        new = [example for example in trainset if example.id not in known]  # recipes of a run ask about the same ones
        traces = collect(bare(program), new, executor=self.resources.executor, score=self.resources.evidence)
        known |= {trace.example.id: trace.reference is None or trace.reference.score != 0 for trace in traces}
        return [example for example in trainset if known[example.id]]

    def chosen(self, program: dspy.Module, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        """The examples that are traced with the program to begin with."""
        return self.ordered(trainset)[: self.bound()]

    def ordered(self, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        """The trainset as every recipe of a run takes from it: in an order of the seed."""
        rows = list(trainset)
        random.Random(self.resources.seed).shuffle(rows)
        return rows

    def bound(self) -> int | None:
        """How many examples are traced; None: all."""
        if not self.resources.quick:
            return self.examples
        return QUICK_EXAMPLES if self.examples is None else self.bounded(self.examples)

    def bounded(self, number: int) -> int:
        """A number of examples or rows; an eighth of it in a quick run."""
        return bounded(number, self.resources)

    def score(self) -> Metric:
        """What the student's answers are scored by: the judge where there is one."""
        return self.resources.judge or self.metric

    def rows(self, traces: Sequence[Trace]) -> Rows:
        """The method's rows."""
        raise NotImplementedError

    def human(self, program: dspy.Module) -> Rows:
        """Preferences that people gave, for methods that learn from pairs."""
        if self.method not in ("dpo", "orpo") or not self.resources.feedback:
            return Rows(())
        return human_rows(self.resources.feedback, program, self.resources.executor)


@dataclass(frozen=True, slots=True)
class Configured:
    """A recipe with a task's own settings, which override the recipe's and are overridden by the run's.

    Attributes:
        recipe: a class of `training/recipes`.
        settings: by method, as in `[training.options.<method>]`; those of the recipes that it begins with too.
    """

    recipe: type[WeightOptimizer]
    settings: Mapping[str, Settings] = field(default_factory=dict)

    trains_weights: ClassVar[bool] = True

    def __call__(self, resources: Resources, metric: Metric) -> WeightOptimizer:
        """The recipe of a run."""
        return self.recipe(replace(resources, training=merged(self.settings, resources.training)), metric)

    def with_settings(self, **by_method: Settings) -> Configured:
        """The same with further settings, which go before these."""
        return replace(self, settings=merged(self.settings, by_method))


def merged(below: Mapping[str, Settings], above: Mapping[str, Settings]) -> dict[str, Settings]:
    """Settings by method; where both have one, the latter's."""
    return {method: {**below.get(method, {}), **above.get(method, {})} for method in {**below, **above}}


def attributes(recipe: type) -> frozenset[str]:
    """What of a recipe the configuration may set, besides `TrainSpec` fields: its attributes, but no given ones."""
    return frozenset(field.name for field in fields(recipe)) - {"resources", "metric", "settings"}


def learned_sources(program: dspy.Module) -> frozenset[str]:
    """Ids of the examples that the program's LM was trained on last; none of one that was not trained."""
    for predictor in program.predictors():
        folder = None if predictor.lm is None else training_of(predictor.lm.model)
        if folder is not None:
            return trained_sources(folder)
    return frozenset()


def bare(program: dspy.Module) -> dspy.Module:
    """A copy without demonstrations, its LMs kept: what weights learn need not be shown."""
    copy: dspy.Module = program.deepcopy()
    for mine, theirs in zip(copy.predictors(), program.predictors(), strict=True):
        mine.lm, mine.demos = theirs.lm, []
    return copy


def train(
    program: dspy.Module,
    method: Method,
    rows: Sequence[Mapping[str, Any]],
    *,
    prompts: Sequence[Sequence[Mapping[str, Any]]] = (),
    **options: Any,
) -> dspy.Module:
    """Tune the program's LM on rows and set the result on every predictor, in place.

    Args:
        program: its predictors share one LM, which a `LocalProvider` can train; see `trainable_lm`.
        method: how.
        rows: as `TrainSpec.rows` has them.
        prompts: chat messages on which the served model must agree with the trained one.
        options: further arguments of the training.

    Raises:
        ArmError: the predictors have several LMs, the LM's weights are not here, or the training failed.
    """
    lm = trainable_lm(program)
    settings = {"method": method, "prompts": [{"prompt": list(prompt)} for prompt in prompts], **options}
    job = lm.finetune(list(rows), None, settings)
    try:
        tuned = job.result()
    except BaseException:
        job.cancel()  # Ctrl-C: the child stops with us
        raise
    program.set_lm(tuned)
    return program


def trainable_lm(program: dspy.Module) -> dspy.LM:
    """The one LM of a program's predictors, whose weights are here.

    Raises:
        ArmError: there are several, or none, or it is hosted elsewhere.
    """
    lms = {predictor.lm.model: predictor.lm for predictor in program.predictors() if predictor.lm is not None}
    if len(lms) != 1:
        raise ArmError(f"One model is tuned at a time, and the program has {len(lms)}: set one LM on every predictor.")
    ((model, lm),) = lms.items()
    if not has_weights(model):
        raise ArmError(f"No weights can be trained: {without_weights(model)}.")
    return lm


def without_weights(model: str) -> str:
    """Why a hosted model is not trained, and what to do instead: the second half of a sentence."""
    return (
        f"the weights of the student {model} are not on this machine; name a student embedded/<name or path>, or see "
        '"Hosted students" in the README for fine-tuning by a provider such as OpenAI'
    )
