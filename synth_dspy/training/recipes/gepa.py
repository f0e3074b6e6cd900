"""GEPA: instructions evolved by reflecting on errors in natural language.

Agrawal et al., "GEPA: Reflective Prompt Evolution Can Outperform Reinforcement Learning", arXiv:2507.19457. Needs a
teacher that can reflect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from synth_dspy.core.resources import Resources
from synth_dspy.training import prompting


@dataclass(frozen=True)
class Gepa:
    """An arm compiled by GEPA; the run's teacher reflects, the student is measured.

    Attributes:
        resources: the run's models and executor.
        metric: scores candidates, in [0, 1].
        effort: DSPy's `light`, `medium` or `heavy`.
    """

    resources: Resources
    metric: Callable[..., float]
    effort: str = "light"

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module:
        prompting.need_capable_teacher("gepa", self.resources)

        def feedback(
            gold: dspy.Example, pred: dspy.Prediction, trace: Any = None, pred_name: Any = None, pred_trace: Any = None
        ) -> dspy.Prediction:
            score = self.metric(gold, pred)
            expected = " or ".join(gold.references) if gold.references else "that the question is not answered there"
            answer = getattr(pred, "answer", "")
            return dspy.Prediction(
                score=score,
                feedback=f"The answer given was {answer!r}; right would be {expected!r}. Score {score:.2f}.",
            )

        optimizer = dspy.GEPA(
            metric=feedback,
            auto=self.effort,
            reflection_lm=self.resources.teacher,
            num_threads=self.resources.executor.concurrency,
            seed=self.resources.seed,
        )
        with prompting.quiet("gepa"):
            return optimizer.compile(student, trainset=list(trainset), valset=list(valset))
