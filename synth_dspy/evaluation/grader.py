"""A language model that grades: one score a question, many at once. The judges that ask a model are built on it."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import dspy

from synth_dspy.core.errors import ModelError
from synth_dspy.core.executor import Executor
from synth_dspy.core.text import as_text

log = logging.getLogger(__name__)

_NUMBER = r"(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?"
_FIGURE = re.compile(
    rf"(?<![\w.,/+-])({_NUMBER})(?:\s*(?:/|\b(?:out\s+)?of\b)\s*({_NUMBER}))?(?![.,/-]?\w|\s*%)", re.IGNORECASE
)
"""A figure that stands alone, or out of another: `0.5`, `9/10`, `0.5 of 1`; not `-0.5`, `90%`, a date or a range."""


_VERDICT = re.compile(r"(?<![\w\s])\s*(true|false)\W*$|^\W*(true|false)\b", re.IGNORECASE)
"""A truth value that stands alone at a reply's end, as after `score:`, or at its beginning; not "it is not true"."""


class Grader(dspy.Module):
    """Asks a model for a score from 0 to 1, or for True or False, as its signature has it.

    A reply that holds neither scores 0.0: what cannot be read is not praise.

    A judge names itself and its `signature`, and says in `score_many` what of a row is asked.

    Args:
        lm: the model; None for DSPy's own.
        executor: bounds the calls under way; None for one of its own.
        signature: what is asked instead of the judge's own.
    """

    name: str
    signature: ClassVar[type[dspy.Signature]]
    """What is asked, with an output `score`."""

    def __init__(
        self,
        lm: dspy.LM | None = None,
        executor: Executor | None = None,
        signature: type[dspy.Signature] | None = None,
    ) -> None:
        super().__init__()
        self._executor = executor or Executor()
        self._answered = False
        self.grade = dspy.Predict(signature or self.signature)
        if lm is not None:
            self.grade.set_lm(lm)

    @property
    def agreement(self) -> Mapping[str, Any]:
        """With human labels: nobody has measured it."""
        return {}

    def __call__(self, example: Any = None, prediction: Any = None, trace: Any = None, **inputs: Any) -> Any:
        if example is None:
            return super().__call__(**inputs)
        return self.score_many([self.row(example, prediction)])[0]

    def row(self, example: Any, prediction: Any) -> dict[str, Any]:
        """The row of an example and a prediction that `score_many` takes."""
        return answer_row(example, prediction)

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Scores of rows."""
        raise NotImplementedError

    def forward(self, **inputs: str) -> dspy.Prediction:
        """The model's score of one input, as `score`."""
        try:
            reply = self.grade(**inputs).score
            score = _clipped(reply)
        except dspy.utils.exceptions.AdapterParseError as error:
            reply = error.lm_response
            score = _last_figure(str(reply))
        if score is None:
            log.warning("the judge's reply holds no score: %.80r", reply)
        return dspy.Prediction(score=score or 0.0)

    def grade_all(self, inputs: Sequence[Mapping[str, str]]) -> list[float]:
        """Scores of many inputs, several calls at a time; 0.0, with a warning, where a call fails for good.

        Raises:
            SetupError: the model cannot be used at all, such as when its server is down or refuses the key.
            ModelError: every call failed; otherwise a judge that never answers would look like one that rejects every
                answer. A single call may fail if the judge has answered before.
        """
        outcomes = self._executor.map(lambda one: self(**one), inputs)
        errors = [outcome.error for outcome in outcomes if outcome.error is not None]
        if errors and len(errors) == len(outcomes) and (len(errors) > 1 or not self._answered):
            first = f"{type(errors[0]).__name__}: {errors[0]}"
            raise ModelError(f"All {len(errors)} calls to the judge failed; the first with {first}") from errors[0]
        self._answered = self._answered or len(errors) < len(outcomes)
        for one, outcome in zip(inputs, outcomes, strict=True):
            if outcome.error is not None:
                log.warning("the judge failed on the question %r, which scores 0: %s", one["question"], outcome.error)
        return [0.0 if outcome.error is not None else float(outcome.unwrap().score) for outcome in outcomes]


def answer_row(example: Any, prediction: Any) -> dict[str, Any]:
    """The row of an answer: question, references, prediction, and whether the program abstained (None: unknown)."""
    return {
        "question": example.question,
        "references": list(example.get("references") or []),
        "prediction": as_text(prediction.get("answer") or ""),
        "abstained": prediction.get("abstained"),
    }


def score_undecided(
    rows: Sequence[Mapping[str, Any]],
    decide: Callable[[Mapping[str, Any]], float | None],
    score: Callable[[Sequence[Mapping[str, Any]]], Sequence[float]],
) -> list[float]:
    """A score for each row: from `decide`, or from `score` where that is None; `score` gets those rows at once."""
    decided = [decide(row) for row in rows]
    scores = iter(score([row for row, value in zip(rows, decided, strict=True) if value is None]))
    return [next(scores) if value is None else value for value in decided]


def _clipped(score: float | None) -> float | None:
    return None if score is None or math.isnan(score) else min(max(float(score), 0.0), 1.0)


def _last_figure(reply: str) -> float | None:
    """The last figure from 0 to 1 in a reply that DSPy could not parse, or the truth value that it gives."""
    figures = [float(figure) / (float(whole or 1) or math.nan) for figure, whole in _FIGURE.findall(reply)]
    verdict = _VERDICT.search(reply)
    truth = None if verdict is None else float((verdict[1] or verdict[2]).lower() == "true")
    return next((figure for figure in reversed(figures) if 0 <= figure <= 1), truth)
