"""Several generators in one run: compared models with the same arms, and arms on what was made elsewhere.

An arm of another model is one more of the task's arms, `rag (gpt-5-mini)` beside `rag`. It differs in its student
alone: the program, the rows, the judge and the held-out questions are the run's. Its program is saved with the settings
that the run would have had with that student, so that it is opened like any other.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.resources import Resources
from synth_dspy.core.task import Arm, CompleteTask
from synth_dspy.domains.documents.steps import is_capable
from synth_dspy.models.roles import EMBEDDED
from synth_dspy.models.weights.cache import publish
from synth_dspy.models.weights.trained import MERGED, SPEC, WHOLE
from synth_dspy.training.adapters import BASE, CONFIG, WEIGHTS
from synth_dspy.training.full import model_of
from synth_dspy.training.merged_adapter import SOURCES, learned_ids
from synth_dspy.training.provider import has_weights, origin, tuned_lm
from synth_dspy.training.spec import ADAPTER, read_spec

if TYPE_CHECKING:
    import dspy

Trains = Callable[[Arm], bool]


@dataclass
class Generator:
    """A model that answers in the student's place.

    Attributes:
        model: its model string.
        config: the run's settings with this model as the student.
        lm: once it is open.
    """

    model: str
    config: CompileConfig
    lm: dspy.LM | None = None
    _evidence: dict[str, bool] = field(default_factory=dict)

    def resources(self, resources: Resources) -> Resources:
        """The run's resources with this model as the student; the program's steps stay those of the run's own."""
        steps = self.config.retrieval.steps
        return replace(resources, student=self.lm, steps=steps, evidence_by_id=self._evidence)


@dataclass(frozen=True, slots=True)
class Outside:
    """The optimizer of an arm made elsewhere: the program as declared, on that model or with that adapter.

    Attributes:
        description: for the report.
        weights: the merged file, if it is an adapter.
    """

    description: str
    weights: Path | None = None

    name = "none"

    def __call__(self, resources: Resources, metric: Any) -> Outside:
        """Itself, as the arm's factory."""
        return self

    def compile(self, student: dspy.Module, *, trainset: Sequence[Any], valset: Sequence[Any]) -> dspy.Module:
        """The program with the adapter, if any."""
        if self.weights is not None:
            student.set_lm(tuned_lm(student.predictors()[0].lm, self.weights))
        return student


@dataclass(frozen=True, slots=True)
class Generators:
    """The run's task and arms with those of other generators.

    Attributes:
        task: with all arms.
        names: the arms to run, the baseline first.
        of: the generator of an arm, unless it is the first student.
        learned: ids of the examples that an arm made elsewhere was trained on; None where that is not recorded.
    """

    task: CompleteTask
    names: list[str]
    of: Mapping[str, Generator]
    learned: Mapping[str, frozenset[str] | None]

    def note(self, held_out: Sequence[dspy.Example], noun: str) -> list[str]:
        """Sentences on arms made elsewhere that may have been trained on held-out questions."""
        notes, unknown = [], sorted(name for name, ids in self.learned.items() if ids is None)
        for name, ids in self.learned.items():
            if seen := sum(str(example.id) in ids for example in held_out) if ids else 0:
                notes.append(f"{name} was trained on {seen} of the {len(held_out)} held-out questions: it knows them.")
        if unknown:
            notes.append(f"Whether {', '.join(unknown)} learned from held-out {noun}s is not recorded.")
        return notes


def with_generators(
    task: CompleteTask, names: Sequence[str], config: CompileConfig, home: Path, trains: Trains
) -> Generators:
    """Add the arms of compared models and those made elsewhere.

    Args:
        task: declares the arms.
        names: the arms of the first student.
        config: the run's settings.
        home: the folder for merged adapters.
        trains: whether an arm trains weights.

    Raises:
        SetupError: a model is compared twice, a name is taken, there is no such folder, or an adapter fits no model.
    """
    student, compared = config.models.student, config.models.compare
    if twice := next((model for model in compared if [student, *compared].count(model) > 1), None):
        raise SetupError(f"The model {twice} is compared with itself: name it once, in --models.student or .compare.")
    optimizers, of = dict(task.optimizers), {}
    listed, learned = list(names), {}
    generators = {model: Generator(model, _config_of(config, model)) for model in compared}
    for label, model in zip(_labels(compared), compared, strict=True):
        for name in names:
            if is_last(task.optimizers[name]) or (trains(task.optimizers[name]) and not has_weights(model)):
                continue
            optimizers[f"{name} ({label})"] = task.optimizers[name]
            of[f"{name} ({label})"] = generators[model]
            listed.append(f"{name} ({label})")
    for name, _, where in (arm.partition("=") for arm in config.arm):
        if name in optimizers:
            raise SetupError(f"There is an arm {name} already: give --arm {name}=... another name.")
        path = Path(where)
        if path.is_absolute() and not path.exists():
            raise SetupError(f"The arm {name} is in {path}, where nothing is: correct --arm {name}=...")
        path = path / WHOLE if (path / WHOLE).is_dir() else path
        adapters = _adapters(path) if path.is_dir() else []
        if adapters:
            bases = [model for model in (student, *compared) if model.startswith(EMBEDDED)]
            base, weights = _merged(name, path, adapters, bases, home)
            outside = Outside(f"The adapter {path}, made elsewhere, on {base}.", weights)
            if base != student:
                of[name] = generators[base]
            learned[name] = learned_ids(path)
        else:
            model = f"{EMBEDDED}{path}" if path.is_absolute() else where
            outside = Outside("As declared.")
            of[name] = generators.setdefault(model, Generator(model, _config_of(config, model, where)))
            learned[name] = learned_ids(path.parent) if path.name in (MERGED, WHOLE) else frozenset()
        optimizers[name] = outside
        listed.append(name)
    listed.sort(key=lambda name: is_last(optimizers[name]))
    return Generators(replace(task, optimizers=optimizers), listed, of, learned)


def is_last(arm: Arm) -> bool:
    """Whether an arm is made of the others."""
    return bool(getattr(arm, "after_others", False))


def _config_of(config: CompileConfig, model: str, key: str = "") -> CompileConfig:
    """The settings with another student, whose options stand under its model string, or under `key`."""
    roles = {role: options for role, options in config.models.options.items() if "/" not in role}
    options = {**roles, "student": config.models.options.get(key or model, {})}
    models = config.models.model_copy(update={"student": model, "compare": (), "options": options})
    retrieval = config.retrieval
    if retrieval.steps == "auto":  # decided by the student's name: the program stays as it is
        steps = "on" if is_capable(config.models.student) else "off"
        retrieval = retrieval.model_copy(update={"steps": steps})
    return config.model_copy(update={"models": models, "retrieval": retrieval, "arm": ()})


def _labels(models: Sequence[str]) -> list[str]:
    """Short names of models that tell them apart, fit for a folder's name."""
    short = [Path(model).stem if model.endswith(".gguf") else model.rpartition("/")[2] for model in models]
    whole = [model.removeprefix(EMBEDDED) for model in models]
    chosen = [one if short.count(one) == 1 else all_ for one, all_ in zip(short, whole, strict=True)]
    return [re.sub(r"[^\w.+-]+", "-", label).strip("-") for label in chosen]


def _adapters(folder: Path) -> list[Path]:
    """The PEFT adapters in a folder, in training order: one, or the chain of a training made here; else none."""
    training = folder if (folder / SPEC).is_file() else folder.parent
    if (training / SPEC).is_file() and (folder == training or folder.name == ADAPTER):
        spec = read_spec(training / SPEC)
        if spec.call_token is not None:
            raise SetupError(
                f"{folder} was trained with the marker {spec.call_token!r}, which the base lacks: name the merged "
                f"model, {training / MERGED}."
            )
        return list(model_of(training)[1])
    return [folder] if (folder / CONFIG).is_file() else []


def _merged(name: str, folder: Path, adapters: Sequence[Path], bases: Sequence[str], home: Path) -> tuple[str, Path]:
    """The model that adapters fit, and the file with them merged into it, which is made once."""
    from synth_dspy.training.merge import merge

    if not bases:
        raise SetupError(
            f"The adapter {name} needs the weights of its base: name them as --models.student embedded/... or "
            "--models.compare embedded/..."
        )
    why: list[str] = []
    for base in bases:
        model = origin(base)[0]
        target = home / f"{name}-{_digest(adapters, model)}"
        try:
            if not (target / MERGED).is_file():
                with publish(target / ADAPTER) as part:
                    part.mkdir(parents=True)
                    for file in (CONFIG, WEIGHTS, BASE, SOURCES):
                        if (adapters[-1] / file).is_file():
                            shutil.copyfile(adapters[-1] / file, part / file)
                merge(model, adapters, target / MERGED, "F16")
            return base, target / MERGED
        except ArmError as error:
            shutil.rmtree(target, ignore_errors=True)
            why.append(str(error))
    hint = f" None of {', '.join(bases)} is its base." if len(bases) > 1 else ""
    raise SetupError(f"--arm {name}={folder}: {why[0]}{hint}")


def _digest(adapters: Sequence[Path], base: str) -> str:
    """A hash of adapters' contents and their base's name."""
    digest = hashlib.sha256(base.encode())
    for adapter in adapters:
        for file in (CONFIG, WEIGHTS):
            if (adapter / file).is_file():
                digest.update((adapter / file).read_bytes())
    return digest.hexdigest()[:16]
