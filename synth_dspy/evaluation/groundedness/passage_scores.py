"""The judges of answers with their passages as metrics of a task: `document_tools.grounded` and `.retrieval`.

With a judge model, each asks it; without one, it scores by fitted features. They are further columns of a report: the
headline stays the score of the judge of the references.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from synth_dspy.core.protocols import Judge, Metric
from synth_dspy.core.resources import Resources
from synth_dspy.evaluation.groundedness.judges import FittedJudge, groundedness_judge, passage_row, retrieval_judge
from synth_dspy.evaluation.groundedness.parameters import Part
from synth_dspy.evaluation.records import JudgeRecord
from synth_dspy.evaluation.reference_judge.calibration import ACCEPTED
from synth_dspy.evaluation.scores import About


class PassageScore:
    """A judge's verdict as a metric: 1.0 or 0.0, so that a report's mean is a share; NaN where it does not apply.

    Args:
        part: `grounded` or `retrieval`; without a run, fitted features score it.
        about: see `evaluation.scores`.
        label: the score's name in reports.
        make: makes the judge of a run.
        judge: that judge, once made.
    """

    def __init__(
        self, part: Part, about: About, label: str, make: Callable[[Resources], Judge], judge: Judge | None = None
    ) -> None:
        self.part, self.about, self.label = part, about, label
        self._make, self._judge = make, judge

    def with_resources(self, resources: Resources) -> PassageScore:
        """The metric with the run's judge."""
        return PassageScore(self.part, self.about, self.label, self._make, self._make(resources))

    @cached_property
    def judge(self) -> Judge:
        """The judge."""
        return self._judge or FittedJudge(self.part)

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        return self.score_predictions([example], [prediction])[0]

    def score_predictions(self, examples: Sequence[Any], predictions: Sequence[Any]) -> list[float]:
        """Verdicts on many predictions at once."""
        rows = [passage_row(*pair) for pair in zip(examples, predictions, strict=True)]
        return [score if math.isnan(score) else float(score >= ACCEPTED) for score in self.judge.score_many(rows)]


def judge_records(metrics: Mapping[str, Metric]) -> dict[str, JudgeRecord]:
    """The judges among a task's metrics with their agreement with people, by the names of their scores."""
    return {name: _record(metric.judge) for name, metric in metrics.items() if isinstance(metric, PassageScore)}


def _record(judge: Judge) -> JudgeRecord:
    keys = JudgeRecord.__annotations__
    return {"name": judge.name, **{key: value for key, value in judge.agreement.items() if key in keys}}  # type: ignore[typeddict-item]


grounded = PassageScore("grounded", "support", "supported by its passages", groundedness_judge)
"""Whether the passages that an answer is based on support everything it states; NaN where it abstains."""

retrieval = PassageScore("retrieval", "retrieval", "passages contain an answer", retrieval_judge)
"""Whether the passages contain an answer to the question; NaN where the right answer is to abstain."""
