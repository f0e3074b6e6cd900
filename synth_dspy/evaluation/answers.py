"""The kinds of answers by the type of a program's output (label, structure or text), and the scoring of each.

A label (a `Literal`, an enumeration, a bool or an int) is right if it equals an accepted one. A structure is compared
field by field. A text is compared with the references by a judge.
"""

from __future__ import annotations

import enum
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import dspy
from pydantic import TypeAdapter, ValidationError

from synth_dspy.core.errors import MetricError, SetupError, SynthDspyError
from synth_dspy.core.protocols import Judge, Metric
from synth_dspy.core.text import as_text, one_line
from synth_dspy.evaluation.metrics import normalize_answer
from synth_dspy.evaluation.scores import scores

LABEL, STRUCTURE, TEXT = "label", "structure", "text"
REASONING = frozenset({"reasoning", "rationale", "trajectory"})
"""Outputs that DSPy's own modules add: never the answer."""
NOTHING = "null"
"""None as a label."""
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class AnswerType:
    """The output of a program that is its answer.

    Attributes:
        name: the output's name.
        annotation: its type.
        inputs: the program's required inputs.
        accepted: all its inputs; empty if it takes any.
        outputs: the types of all outputs of the same predictor, by name.
    """

    name: str
    annotation: Any
    inputs: tuple[str, ...]
    accepted: tuple[str, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """`label`, `structure` or `text`."""
        if self.classes or self._type in (bool, int):
            return LABEL
        return TEXT if self._type is str else STRUCTURE

    @property
    def classes(self) -> tuple[str, ...]:
        """The possible labels, as texts; empty if the type does not list them."""
        if get_origin(self._type) is Literal:
            listed = tuple(map(as_text, get_args(self._type)))
        elif inspect.isclass(self._type) and issubclass(self._type, enum.Enum):
            listed = tuple(as_text(member) for member in self._type)
        else:
            listed = ("false", "true") if self._type is bool else ()
        return (*listed, NOTHING) if listed and self.may_be_none else listed

    @property
    def may_be_none(self) -> bool:
        """Whether None is an answer."""
        return type(None) in get_args(self.annotation) and get_origin(self.annotation) in (Union, UnionType)

    @property
    def _type(self) -> Any:
        """The type without its `| None`, if one other type remains."""
        others = [each for each in get_args(self.annotation) if each is not type(None)]
        return others[0] if self.may_be_none and len(others) == 1 else self.annotation

    def read(self, value: Any) -> Any:
        """A value from a file, converted to the type: in a CSV file `3` may be an int, and `["a"]` a list.

        Raises:
            ValidationError: it is not of the type.
        """
        adapter = TypeAdapter(self.annotation)
        if self._type is str and value is not None:
            return adapter.validate_python(value)
        try:
            return adapter.validate_python(value)
        except ValidationError:
            if not isinstance(value, str):
                raise
            with suppress(ValidationError):
                return adapter.validate_json(value)
            raise

    def problem_with(self, value: Any) -> str | None:
        """How to correct a value that is not of the type; None for one that is."""
        if value is None or not str(value).strip():
            return None if self.may_be_none else "fill it in"
        try:
            self.read(value)
        except ValidationError:
            if meant := [each for each in self.classes if one_line(each).casefold() == one_line(str(value)).casefold()]:
                return f"make it {meant[0]}, as the program's type spells it"
            kind = f"one of {', '.join(self.classes)}" if self.classes else getattr(self.annotation, "__name__", "")
            return f"make it {kind or self.annotation}"
        return None

    def others(self) -> list[AnswerType]:
        """The other outputs, each like an answer."""
        return [AnswerType(name, kind, ()) for name, kind in self.outputs.items() if name != self.name]


def answer_type(program: dspy.Module, named: str = "") -> AnswerType:
    """The answer of a program, from its last predictor with that output, and the inputs that the program needs.

    Args:
        program: the program.
        named: the output's name; by default `answer`, or the last predictor's only output.

    Raises:
        SetupError: the program has no predictor, or several outputs of which none is called `answer`.
    """
    signatures = [predictor.signature for predictor in reversed(program.predictors())]
    if not signatures:
        raise SetupError(f"The program {type(program).__name__} has no predictor, so there is nothing to compile.")
    every = [
        {name: field for name, field in signature.output_fields.items() if name not in REASONING}
        for signature in signatures
    ]
    name = named or ("answer" if any("answer" in outputs for outputs in every) else "")
    if not name and len(every[0]) == 1:
        (name,) = every[0]
    outputs = next((outputs for outputs in every if name in outputs), None)
    if outputs is None:
        listed, first = ", ".join(every[0]), next(iter(every[0]), "")
        raise SetupError(
            f"The program's outputs are {listed}, and none is called {named or 'answer'!r}: say which one is its "
            f"answer, as in Task(answer={first!r}, ...)."
        )
    types = {each: output.annotation for each, output in outputs.items()}
    return AnswerType(name, types[name], *_inputs(program), outputs=types)


def _inputs(program: dspy.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The required inputs of a program, and all its inputs, from its signature or its `forward`."""
    signature = getattr(program, "signature", None)
    if isinstance(signature, type) and hasattr(signature, "input_fields"):
        return tuple(signature.input_fields), ()
    parameters = list(inspect.signature(type(program).forward).parameters.values())[1:]
    own = tuple(each.name for each in parameters if each.kind in _NAMED and each.default is each.empty)
    if all(each.kind in _NAMED for each in parameters):
        return own, tuple(each.name for each in parameters)
    # In addition to its own, it takes its first predictor's.
    return own or tuple(program.predictors()[0].signature.input_fields), ()


class Equality:
    """1.0 if the answer equals a reference, ignoring case and white space; without references, if it abstains."""

    name = "equality"
    score_name = "accuracy"
    """The score's name in reports; it is measured, not a judge's estimate."""

    @property
    def agreement(self) -> Mapping[str, Any]:
        """Empty: equality is right by definition."""
        return {}

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        references = example.get("references") or []
        if not references:
            return float(bool(prediction.get("abstained")))
        return self.compare(as_text(prediction.get("answer", "")), list(map(str, references)))

    def compare(self, answer: str, references: Sequence[str]) -> float:
        """The score of an answer against at least one reference."""
        return float(one_line(answer).casefold() in {one_line(reference).casefold() for reference in references})

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Scores of rows with references, prediction and, without references, whether it abstained."""
        return [self(row, {"answer": row["prediction"], "abstained": row.get("abstained")}) for row in rows]


class FieldByField(Equality):
    """The share of a structure's fields that equal the best reference's; texts are compared as in SQuAD."""

    name = "field by field"
    score_name = "field accuracy"

    def compare(self, answer: str, references: Sequence[str]) -> float:
        """The best share."""
        value = _parsed(answer)
        return max(_alike(value, _parsed(reference)) for reference in references)


@dataclass(frozen=True, slots=True)
class ModelFree:
    """A task's factory of a judge that asks no model.

    Attributes:
        make: makes the judge.
        how: how it scores, as a phrase.
    """

    make: Callable[[], Judge]
    how: str

    def __call__(self, resources: Any) -> Judge:
        return self.make()


class MetricJudge(Equality):
    """The user's own metric as the judge.

    It runs under the LM that DSPy was configured with when this was created, if any, since a metric may call a model.

    Args:
        metric: DSPy's convention, `metric(example, prediction, trace=None)`, or GEPA's with five arguments; it
            returns a score from 0 to 1, a bool, or a prediction with a `score`.
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        self.metric = metric
        self.name = self.score_name = getattr(metric, "__name__", type(metric).__name__)
        self.lm = dspy.settings.lm
        self.failure: SetupError | None = None
        """The metric's first error, kept because DSPy's optimizers ignore it and drop the row."""

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        try:
            return self._score(example, prediction, trace)
        except SetupError as error:
            self.failure = self.failure or error
            raise

    def score_predictions(self, examples: Sequence[Any], predictions: Sequence[Any]) -> list[float]:
        """Scores of whole predictions rather than rows."""
        return [self._score(example, prediction) for example, prediction in zip(examples, predictions, strict=True)]

    def _score(self, example: Any, prediction: Any, trace: Any = None) -> float:
        with dspy.context(lm=self.lm) if self.lm is not None else nullcontext():
            return apply_metric(self.name, self.metric, example, prediction, trace, always=True)


def apply_metric(
    name: str, metric: Callable[..., Any], example: Any, prediction: Any, trace: Any = None, *, always: bool = False
) -> float:
    """A metric's score of a prediction, checked by `check_score`.

    Raises:
        MetricError: the metric fails or returns another value; names it with its file and line.
    """
    try:
        value = metric(example, prediction, trace, *[None] * (_positional(metric) - 3))
    except SynthDspyError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise MetricError(f"{place_of(metric)}: the metric {name!r} failed on {example.get('id')}: {why}.") from error
    return check_score(name, metric, value, always=always)


def check_metric(name: str, metric: Callable[..., Any]) -> None:
    """Refuse a metric that cannot be called with an example, a prediction and a trace, as far as its signature tells.

    Raises:
        MetricError: names it with its file and line.
    """
    try:
        signature = inspect.signature(metric)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*[None] * _positional(metric))
    except TypeError:
        raise MetricError(
            f"{place_of(metric)}: the metric {name!r} takes {signature}; a metric takes (example, prediction, "
            "trace=None)."
        ) from None


def _positional(metric: Callable[..., Any]) -> int:
    """The number of positional arguments to pass to a metric, at least three."""
    try:
        parameters = inspect.signature(metric).parameters.values()
    except (TypeError, ValueError):
        return 3
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    return max(3, sum(each.kind in kinds and each.default is each.empty for each in parameters))


def check_score(name: str, metric: Callable[..., Any], value: Any, *, always: bool = False) -> float:
    """A metric's value as a number from 0 to 1, or NaN if it does not apply, unless it `always` has to.

    Raises:
        MetricError: it is anything else; names the metric with its file and line.
    """
    try:
        number = float(getattr(value, "score", value))
    except (TypeError, ValueError):
        number = math.inf
    if not (0.0 <= number <= 1.0 or (math.isnan(number) and not always)):
        raise MetricError(
            f"{place_of(metric)}: the metric {name!r} gave {value!r}; a metric gives a number from 0 to 1, or a truth "
            "value."
        )
    return number


def place_of(what: Any) -> str:
    """File and line of a function or class, or its name if unknown."""
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
    """Whether a value has a judge's interface."""
    return bool(getattr(value, "name", "")) and callable(value) and callable(getattr(value, "score_many", None))
