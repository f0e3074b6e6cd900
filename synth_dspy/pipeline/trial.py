"""Tries a program on one example before any work is done, so that its author's errors show at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import dspy
from dspy.utils.exceptions import AdapterParseError

from synth_dspy.core.errors import SetupError
from synth_dspy.core.protocols import Judge
from synth_dspy.core.resources import Resources
from synth_dspy.core.workspace import failing_line
from synth_dspy.evaluation.answers import MetricJudge, apply_metric, place_of
from synth_dspy.pipeline.context import Context

log = logging.getLogger(__name__)

AUTHOR_ERRORS = (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError)
"""What faulty code raises; failures of a model or its server show in the report instead."""


def try_program(context: Context, resources: Resources, judge: Judge, examples: Sequence[dspy.Example]) -> None:
    """Run the program, as declared, on the first example and score its answer, unless the run is resumed.

    Args:
        context: the run.
        resources: its models.
        judge: called only if it is the user's own metric.
        examples: labelled training examples.

    Raises:
        SetupError: the program cannot be made, fails on the example or gives no answer, or a metric fails; names file
            and line.
    """
    if not examples or (context.run.folder / "datasets").exists():
        return
    with context.ledger.unit(station="check"):
        try:
            program = context.task.program(resources)
            program.set_lm(resources.student)
            prediction = program(**examples[0].inputs())
        except (SetupError, AdapterParseError) as error:
            if isinstance(error, SetupError):
                raise
            return  # a small model's reply that cannot be parsed
        except AUTHOR_ERRORS as error:
            raise SetupError(
                f"{failing_line(error, context.workspace)}the program failed on its first example, {examples[0].id}: "
                f"{type(error).__name__}: {error}."
            ) from error
        except Exception as error:
            log.warning("the program could not be tried", exc_info=error)
            return
    if prediction is None or "answer" not in prediction:
        outputs = ", ".join(prediction.keys()) if isinstance(prediction, dspy.Prediction) else repr(prediction)
        raise SetupError(
            f"{place_of(type(program))}: the program's prediction has no 'answer', only {outputs}: return "
            "dspy.Prediction(answer=..., abstained=...), or give the Task a DSPy module whose output is the answer."
        )
    for name, metric in context.task.metrics.items():
        apply_metric(name, metric, examples[0], prediction)
    if isinstance(judge, MetricJudge):
        judge(examples[0], prediction)
