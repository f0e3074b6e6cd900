"""What a program's answer is, by the type of its output: a label, a structure or a text; and how each kind is scored.

A label (a `Literal`, an enumeration, a truth value or a whole number) is right where it equals an accepted one. A
structure is compared field by field. A text is compared with the references by a judge.
"""

from __future__ import annotations

import enum
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import dspy
from pydantic import BaseModel, TypeAdapter, ValidationError

from synth_dspy.core.errors import SetupError
from synth_dspy.core.protocols import Judge, Metric
from synth_dspy.evaluation.metrics import normalize_answer
from synth_dspy.evaluation.scores import scores

LABEL, STRUCTURE, TEXT = "label", "structure", "text"
REASONING = frozenset({"reasoning", "rationale"})
"""Outputs that DSPy's own modules add: never the answer."""


@dataclass(frozen=True, slots=True)
class AnswerType:
    """The output of a program that is its answer.

    Attributes:
        name: the output's name.
        annotation: its type.
        inputs: the names of the inputs of the predictor that gives it.
    """

    name: str
    annotation: Any
    inputs: tuple[str, ...]

    @property
    def kind(self) -> str:
        """`label`, `structure` or `text`."""
        if self.classes or self.annotation in (bool, int):
            return LABEL
        if self.annotation is str:
            return TEXT
        return STRUCTURE

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that it can be, as texts; empty where the type does not list them."""
        if get_origin(self.annotation) is Literal:
            return tuple(map(as_text, get_args(self.annotation)))
        if inspect.isclass(self.annotation) and issubclass(self.annotation, enum.Enum):
            return tuple(as_text(member) for member in self.annotation)
        return ("false", "true") if self.annotation is bool else ()

    def read(self, value: Any) -> Any:
        """A value of a file as the type has it: `"3"` as 3 for a whole number.

        Raises:
            ValidationError: it is not of the type.
        """
        return TypeAdapter(self.annotation).validate_python(value)

    def problem_with(self, value: Any) -> str | None:
        """What to make of a value that is not of the type; None for one that is."""
        if value is None or not str(value).strip():
            return "fill it in"
        try:
            self.read(value)
        except ValidationError:
            kind = f"one of {', '.join(self.classes)}" if self.classes else getattr(self.annotation, "__name__", "")
            return f"make it {kind or self.annotation}"
        return None


def answer_type(program: dspy.Module, named: str = "") -> AnswerType:
    """The answer of a program's last predictor.

    Args:
        program: the program.
        named: which output it is; without, the one called `answer`, or the only one.

    Raises:
        SetupError: the program has no predictor, or several outputs of which none is called `answer`.
    """
    predictors = program.predictors()
    if not predictors:
        raise SetupError(f"The program {type(program).__name__} has no predictor, so there is nothing to compile.")
    signature = predictors[-1].signature
    outputs = {name: field for name, field in signature.output_fields.items() if name not in REASONING}
    name = named or ("answer" if "answer" in outputs else next(iter(outputs)) if len(outputs) == 1 else "")
    if name not in outputs:
        listed = ", ".join(outputs)
        raise SetupError(
            f"The program's outputs are {listed}, and none is called {named or 'answer'!r}: say which one is its "
            f"answer, as in Task(answer={next(iter(outputs), '')!r}, ...)."
        )
    return AnswerType(name, outputs[name].annotation, tuple(signature.input_fields))


def as_text(value: Any) -> str:
    """An answer as text, the same for equal values: JSON where it is structured."""
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        return " ".join(value.split())
    if isinstance(value, enum.Enum):
        return as_text(value.value)
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


class Equality:
    """1.0 where the answer equals one of the references, upper and lower case aside."""

    name = "equality"
    score_name = "accuracy"
    """What a report calls the score, which is measured and no judge's estimate."""

    @property
    def agreement(self) -> Mapping[str, Any]:
        """Right by definition: there is nothing to agree about."""
        return {}

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        answer = str(prediction.get("answer") or "").casefold()
        return float(any(answer == str(reference).casefold() for reference in example.get("references") or []))

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Scores of rows of references and prediction."""
        return [self(row, {"answer": row["prediction"]}) for row in rows]


class FieldByField(Equality):
    """The share of a structure's fields that are as in the best reference; texts are compared as SQuAD's are."""

    name = "field by field"
    score_name = "field accuracy"

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        answer = _parsed(str(prediction.get("answer") or ""))
        return max((_alike(answer, _parsed(reference)) for reference in example.get("references") or []), default=0.0)


class MetricJudge(Equality):
    """A metric of the user's own as the judge: what it says of the prediction is the score.

    Args:
        metric: DSPy's convention, `metric(example, prediction, trace=None)`; a score from 0 to 1, or a truth value.
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        self.metric = metric
        self.name = self.score_name = getattr(metric, "__name__", type(metric).__name__)

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        return checked(self.name, self.metric, self.metric(example, prediction, trace))

    def score_predictions(self, examples: Sequence[Any], predictions: Sequence[Any]) -> list[float]:
        """Scores of predictions, which hold more than a row does."""
        return [self(example, prediction) for example, prediction in zip(examples, predictions, strict=True)]


def checked(name: str, metric: Callable[..., Any], value: Any) -> float:
    """A metric's value as a number from 0 to 1, NaN where it does not apply.

    Raises:
        SetupError: it is none; names the metric with its file and line.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.inf
    if not (math.isnan(number) or 0.0 <= number <= 1.0):
        raise SetupError(
            f"{place_of(metric)}: the metric {name!r} gave {value!r}; a metric gives a number from 0 to 1, or a truth "
            "value."
        )
    return number


def place_of(what: Any) -> str:
    """File and line of a function or class, or its name where it has none."""
    target = what if inspect.isroutine(what) or inspect.isclass(what) else type(what)
    try:
        return f"{inspect.getsourcefile(target)}:{inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):
        return getattr(what, "__name__", type(what).__name__)


def make_structure_metrics() -> dict[str, Metric]:
    """Further scores of structures: whether all fields are right."""
    judge = FieldByField()

    @scores("answer", "exact match")
    def exact(example: Any, prediction: Any, trace: Any = None) -> float:
        return float(judge(example, prediction) == 1.0)

    return {"exact": exact}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _alike(one: Any, other: Any) -> float:
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        return sum(_alike(one.get(n), other.get(n)) for n in names) / len(names) if names else 1.0
    if isinstance(one, list) and isinstance(other, list):
        longest = max(len(one), len(other))
        return sum(map(_alike, one, other)) / longest if longest else 1.0
    if isinstance(one, str) and isinstance(other, str):
        return float(normalize_answer(one) == normalize_answer(other))
    return float(one == other)


def is_judge(value: Judge | Any) -> bool:
    """Whether a value has a judge's face."""
    return bool(getattr(value, "name", "")) and callable(getattr(value, "score_many", None))
