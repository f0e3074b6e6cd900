"""Fine-tuning as a DSPy optimizer: `compile(student, trainset, valset)` returns the program with a tuned LM.

Recipes for weights and for prompts are interchangeable and can be chained: a recipe is a DSPy teleprompter, so
`dspy.BetterTogether` accepts it. Each method's rows and settings are in `training/recipes`.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import dspy
from dspy.teleprompt import Teleprompter

from synth_dspy.core.errors import ArmError
from synth_dspy.core.protocols import Metric
from synth_dspy.core.resources import Resources, bounded
from synth_dspy.core.training_facts import DiscardedTraining
from synth_dspy.models.weights import registry
from synth_dspy.training.feedback import BY_METHOD, human_rows
from synth_dspy.training.large import EXAMPLES, LORA_RATE, gpu_settings
from synth_dspy.training.provider import has_weights, origin, trained_sources, training_facts, training_of
from synth_dspy.training.rows import Rows
from synth_dspy.training.spec import PROMPTS, Method, is_full
from synth_dspy.training.traces import Trace, collect, is_unanswered, prompts

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

_Row = TypeVar("_Row")
Settings = Mapping[str, Any]
"""`TrainSpec` fields."""
NVIDIA = Path("/proc/driver/nvidia/version")
QUICK_EXAMPLES = 12
"""Training examples of a quick run."""
LARGE = 2 << 30
"""Bytes of weights above which a model is trained with the settings for large models."""


def has_gpu() -> bool:
    """Whether an NVIDIA driver is installed; checked without importing torch."""
    return NVIDIA.exists()


def is_large(model: str) -> bool:
    """Whether a model has local weights of more than 2 GiB."""
    if not has_weights(model):
        return False
    path = registry.resolve(origin(model)[0])
    return sum(file.stat().st_size for file in (path.glob("*.safetensors") if path.is_dir() else [path])) > LARGE


@dataclass(frozen=True)
class WeightOptimizer(Teleprompter):
    """Base of the recipes in `training/recipes/lora_*.py`.

    The run's configuration (`[training.options.<method>]`) overrides a recipe's arguments: it may set the attributes
    after `metric`, and `TrainSpec` fields.

    Attributes:
        resources: the run's models and executor.
        metric: scores answers, in [0, 1].
        examples: maximum number of training examples to trace; None: all. Fewer in a quick run.
        samples: sampled answers of the student to each.
        temperature: sampling temperature of these.
        settings: `TrainSpec` fields that override the recipe's own.
    """

    resources: Resources
    metric: Metric
    examples: int | None = None
    samples: int = 0
    temperature: float = 0.8
    settings: Settings = field(default_factory=dict)

    trains_weights: ClassVar[bool] = True
    """Marks an arm that trains weights, so that this is known before any work; see `Task.optimizers`."""
    method: ClassVar[Method]
    begins_with: ClassVar[Method | None] = None
    """The method whose training comes before its own, once for all arms of a run."""
    unused: ClassVar[frozenset[str]] = frozenset()
    """Attributes of a base class that this recipe makes no use of."""
    cpu: ClassVar[Settings] = {}
    """Settings for a small model on a few cores."""
    gpu: ClassVar[Settings] = {}
    """Settings for a large model on a GPU, besides those of `large.py`."""
    large: ClassVar[Settings] = {}
    """Attributes of the recipe for a large model on a GPU, beside as many rows as there are."""

    def __post_init__(self) -> None:
        configured = self.resources.training.get(self.method, {})
        own = attributes(type(self))
        for name in own & configured.keys():
            object.__setattr__(self, name, configured[name])
        if self.on_gpu():  # as many rows as there are, where a recipe for few cores stops at some dozens
            most = dict.fromkeys(own & {"examples", "most"}, EXAMPLES)
            for name, value in {**most, **self.large}.items():
                if name not in configured:
                    object.__setattr__(self, name, value)
        settings = {name: value for name, value in configured.items() if name not in own}
        object.__setattr__(self, "settings", {**self.settings, **settings})

    @classmethod
    def most_trainings(cls, settings: Settings, *, large: bool) -> int:
        """The most trainings of its own that it makes.

        Args:
            settings: of its method, as in `[training.options.<method>]`.
            large: whether a large model is trained on a GPU.
        """
        return 1

    @classmethod
    def with_settings(cls, **by_method: Settings) -> Configured:
        """The recipe with other defaults: `LoraSft.with_settings(sft={"epochs": 2})`.

        Args:
            **by_method: settings by method, as in `[training.options.<method>]`; also those of the recipe that this one
                starts from.
        """
        return Configured(cls, by_method)

    def compile(
        self,
        student: dspy.Module,
        *,
        trainset: Sequence[dspy.Example],
        valset: Sequence[dspy.Example] | None = None,
    ) -> dspy.Module:
        """Trace the program, make rows, train, and return a copy of the program with the tuned LM, without
        demonstrations.

        Raises:
            ArmError: the model has no local weights, there is nothing to train on, or the training failed.
        """
        trainable_lm(student)
        if not trainset:
            raise ArmError("There are no training rows.")
        supported = self.with_evidence(student, trainset)
        if not supported:
            raise ArmError(
                "The program gets no evidence for the answer of any training row: raise --words, or check the search."
            )
        program = bare(self.start(student, trainset, valset))
        generated = self.rows(self.traced(program, [*self.chosen(program, supported), *self.unanswered()]))
        human = self.human(program)
        rows = spread_evenly(generated.rows, human.rows)
        self.check(rows)
        without_evidence = len(trainset) - len(supported)
        counts = {
            "rows": len(rows),
            "by_origin": dict(Counter(row["origin"] for row in rows)),
            "dropped": {
                **({"evidence not found": without_evidence} if without_evidence else {}),
                **generated.counts["dropped"],
                **{f"human: {why}": n for why, n in human.dropped.items()},
            },
        }
        log.info("%s: %s", self.method, counts)
        held_out = list(valset or ())[:PROMPTS]
        options = {"counts": counts, "seed": self.resources.seed, **self.options(len(rows))}
        options["prompts"] = prompts(program, held_out, self.resources.executor)[:PROMPTS]
        if options.get("patience"):
            options["dev"] = self.rows(self.traced(program, self.with_evidence(program, held_out))).rows
        return self.fit(program, rows, options, held_out)

    def fit(
        self,
        program: dspy.Module,
        rows: Sequence[Mapping[str, Any]],
        options: dict[str, Any],
        held_out: Sequence[dspy.Example],
    ) -> dspy.Module:
        """Train the program's LM on the rows.

        Args:
            program: a copy of the program to start from.
            rows: all rows, generated ones and people's.
            options: further arguments of `train`.
            held_out: dev examples.
        """
        return train(program, self.method, rows, **options)

    def unanswered(self) -> Sequence[dspy.Example]:
        """Questions without references that the method can learn from."""
        return ()

    @property
    def description(self) -> str:
        """Its description in the report."""
        return described(self)

    @property
    def discarded(self) -> DiscardedTraining | None:
        """The training of its last compile, if the program it started from was returned instead."""
        return getattr(self, "_discarded", None)

    def on_gpu(self) -> bool:
        """Whether the student is a large model, and there is a GPU to train it on."""
        return has_gpu() and is_large(self.resources.student.model)

    def options(self, rows: int) -> dict[str, Any]:
        """`TrainSpec` fields: those for this machine, student and number of rows, overridden by `settings`."""
        own = {**self.gpu, **gpu_settings(self.method, rows)} if self.on_gpu() else self.cpu
        full = {"learning_rate": own["learning_rate"] / LORA_RATE} if is_full(self.settings.get("lora")) else {}
        return {"minutes": self.resources.minutes, **own, **full, **self.settings}

    def traced(self, program: dspy.Module, examples: Sequence[dspy.Example]) -> list[Trace]:
        """The traces of the program on the examples, with the student's samples."""
        return collect(
            program,
            examples,
            executor=self.resources.executor,
            score=self.score(),
            samples=self.samples,
            temperature=self.temperature,
        )

    def start(
        self, student: dspy.Module, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example] | None
    ) -> dspy.Module:
        """The program to start from; preference recipes start from the SFT model's."""
        return student

    def with_evidence(self, program: dspy.Module, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        """The examples for which the program gets evidence of the answer, where the task can tell."""
        if self.resources.evidence is None:
            return list(trainset)
        by_id = self.resources.evidence_by_id  # shared by the recipes of a run
        new = [example for example in trainset if example.id not in by_id]
        traces = collect(bare(program), new, executor=self.resources.executor, score=self.resources.evidence)
        by_id |= {trace.example.id: trace.reference is None or trace.reference.score != 0 for trace in traces}
        return [example for example in trainset if by_id[example.id]]

    def chosen(self, program: dspy.Module, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        """The examples to trace."""
        return self.ordered(trainset)[: self.bound()]

    def ordered(self, trainset: Sequence[dspy.Example]) -> list[dspy.Example]:
        """The trainset in the order that all recipes of a run use: shuffled by the seed."""
        rows = list(trainset)
        random.Random(self.resources.seed).shuffle(rows)
        return rows

    def bound(self) -> int | None:
        """The number of examples to trace; None: all."""
        if not self.resources.quick:
            return self.examples
        return QUICK_EXAMPLES if self.examples is None else min(QUICK_EXAMPLES, self.bounded(self.examples))

    def bounded(self, number: int) -> int:
        """The number of examples or rows; an eighth of it in a quick run."""
        return bounded(number, self.resources)

    def score(self) -> Metric:
        """The metric for the student's answers: the judge, if there is one; for questions without references, AI
        feedback."""
        judge, rater = self.resources.judge or self.metric, self.resources.rater
        if rater is None:
            return judge

        def score(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
            return (rater if is_unanswered(example) else judge)(example, prediction)

        return score

    def rows(self, traces: Sequence[Trace]) -> Rows:
        """The method's rows."""
        raise NotImplementedError

    def human(self, program: dspy.Module) -> Rows:
        """Rows of people's feedback, of the kind that the method learns from."""
        if self.method not in BY_METHOD or not self.resources.feedback:
            return Rows(())
        return human_rows(self.resources.feedback, program, self.resources.executor, BY_METHOD[self.method])

    def check(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Check all rows, generated ones and people's.

        Raises:
            ArmError: the method cannot learn from them.
        """


@dataclass(frozen=True, slots=True)
class Configured:
    """A recipe with a task's own settings, which override the recipe's and are overridden by the run's.

    Attributes:
        recipe: a class from `training/recipes`.
        settings: settings by method, as in `[training.options.<method>]`, including those of the recipe that this one
            starts from.
    """

    recipe: Callable[..., Any]
    settings: Mapping[str, Settings] = field(default_factory=dict)

    trains_weights: ClassVar[bool] = True

    def __call__(self, resources: Resources, metric: Metric) -> Any:
        """Make the recipe for a run."""
        return self.recipe(replace(resources, training=merged(self.settings, resources.training)), metric)

    def with_settings(self, **by_method: Settings) -> Configured:
        """The same with further settings, which override these."""
        return replace(self, settings=merged(self.settings, by_method))


def described(recipe: Any) -> str:
    """A recipe's first line, and what `note_outcome` said of its last compile."""
    return " ".join(filter(None, ((type(recipe).__doc__ or "").splitlines()[0], getattr(recipe, "_outcome", ""))))


def note_outcome(recipe: Any, outcome: str, discarded: DiscardedTraining | None = None) -> None:
    """Keep what the report says of what a recipe, which is frozen, has made.

    Args:
        recipe: the recipe.
        outcome: a sentence.
        discarded: its training, if that was discarded.
    """
    object.__setattr__(recipe, "_outcome", outcome)
    object.__setattr__(recipe, "_discarded", discarded)


def merged(below: Mapping[str, Settings], above: Mapping[str, Settings]) -> dict[str, Settings]:
    """Settings by method, merged; `above` wins."""
    return {method: {**below.get(method, {}), **above.get(method, {})} for method in {**below, **above}}


def spread_evenly(rows: Sequence[_Row], others: Sequence[_Row]) -> list[_Row]:
    """Both, the others spread evenly among the rows, so that a time limit cuts the same share of each."""
    places = [((n + 0.5) / len(part), part is others, row) for part in (rows, others) for n, row in enumerate(part)]
    return [row for _, _, row in sorted(places, key=lambda place: place[:2])]


def attributes(recipe: type) -> frozenset[str]:
    """The attributes of a recipe that the configuration may set, besides `TrainSpec` fields."""
    names = frozenset(field.name for field in fields(recipe)) - {"resources", "metric", "settings"}
    return names - getattr(recipe, "unused", frozenset())


def learned_sources(program: dspy.Module) -> frozenset[str]:
    """Ids of the examples that the program's LM was last trained on; empty if it was not trained."""
    folder = training_folder(program)
    return frozenset() if folder is None else trained_sources(folder)


def training_folder(program: dspy.Module) -> Path | None:
    """The folder of the training that a program's LM comes from; None if it was not trained."""
    models = [predictor.lm.model for predictor in program.predictors() if predictor.lm is not None]
    return next((folder for model in models if (folder := training_of(model)) is not None), None)


def discarded_training(program: dspy.Module, why: str) -> DiscardedTraining | None:
    """The training that a program's LM comes from, which an arm does not use; None if it was not trained."""
    folder = training_folder(program)
    return None if folder is None else DiscardedTraining(training_facts(folder), why)


def bare(program: dspy.Module) -> dspy.Module:
    """A copy without demonstrations, with the same LMs: tuned weights do not need them."""
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
    """Fine-tune the program's LM on rows and set the result on every predictor, in place.

    Args:
        program: a program whose predictors share one LM, which a `LocalProvider` can train; see `trainable_lm`.
        method: the training method.
        rows: rows as described at `TrainSpec.rows`.
        prompts: chats on which the served model must agree with the trained one.
        options: further arguments of the training.

    Raises:
        ArmError: the predictors have several LMs, the LM has no local weights, or the training failed.
    """
    lm = trainable_lm(program)
    settings = {"method": method, "prompts": [{"prompt": list(prompt)} for prompt in prompts], **options}
    job = lm.finetune(list(rows), None, settings)
    try:
        tuned_lm = job.result()
    except BaseException:
        job.cancel()  # Ctrl-C must stop the child too
        raise
    program.set_lm(tuned_lm)
    return program


def trainable_lm(program: dspy.Module) -> dspy.LM:
    """The only LM of a program's predictors, which has local weights.

    Raises:
        ArmError: there are several LMs or none, or the LM is hosted.
    """
    lms = {predictor.lm.model: predictor.lm for predictor in program.predictors() if predictor.lm is not None}
    if len(lms) != 1:
        raise ArmError(f"One model is tuned at a time, and the program has {len(lms)}: set one LM on every predictor.")
    ((model, lm),) = lms.items()
    if not has_weights(model):
        raise ArmError(f"No weights can be trained: {without_weights(model)}.")
    return lm


def without_weights(model: str) -> str:
    """Why a hosted model cannot be trained here, and what to do instead, as the second half of a sentence."""
    return (
        f"the weights of the student {model} are not on this machine; name a student embedded/<name or path>, or see "
        '"Hosted students" in docs/models.md for fine-tuning by a provider such as OpenAI'
    )
