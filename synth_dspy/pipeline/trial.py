"""One question to a program before any work is done: a mistake of its author shows now, not in a finished report."""

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

MISTAKES = (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError)
"""What code that is wrong raises; what a model or its server does is another matter, and shows in the report."""


def try_program(context: Context, resources: Resources, judge: Judge, examples: Sequence[dspy.Example]) -> None:
    """Ask the program, as declared, the first example, and score its answer, unless a run is resumed.

    Args:
        context: the run.
        resources: its models.
        judge: asked only where it is a metric of the user's own.
        examples: labelled ones that are learned from.

    Raises:
        SetupError: the program cannot be made, fails on the example, or gives no answer, or a metric
            fails; names file and line.
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
            return  # a small model's reply that cannot be read
        except MISTAKES as error:
            raise SetupError(
                f"{failing_line(error, context.workspace)}the program failed on its first example, {examples[0].id}: "
                f"{type(error).__name__}: {error}."
            ) from error
        except Exception as error:
            log.warning("the program could not be tried", exc_info=error)
            return
    if prediction is None or "answer" not in prediction:
        there = ", ".join(prediction.keys()) if isinstance(prediction, dspy.Prediction) else repr(prediction)
        raise SetupError(
            f"{place_of(type(program))}: the program's prediction has no 'answer', only {there}: return "
            "dspy.Prediction(answer=..., abstained=...), or give the Task a DSPy module whose output is the answer."
        )
    for name, metric in context.task.metrics.items():
        apply_metric(name, metric, examples[0], prediction)
    if isinstance(judge, MetricJudge):
        judge(examples[0], prediction)
