"""Notes what `compile_task` was given in memory, so that a run is not resumed with other rows, program or metric."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.io.reading import read_json_object

if TYPE_CHECKING:
    import dspy

GIVEN = "given.json"
_FINISHED = "results.json"


def hash_given(program: dspy.Module, trainset: Sequence[Any], metric: Callable[..., Any] | None) -> Mapping[str, str]:
    """Hashes of a program's class and signatures, of its labelled rows, and of its metric's source."""
    signatures = [
        (
            name,
            predictor.signature.instructions,
            {key: str(field.annotation) for key, field in predictor.signature.fields.items()},
        )
        for name, predictor in program.named_predictors()
    ]
    try:
        source = inspect.getsource(metric) if metric is not None else ""
    except (OSError, TypeError):  # of a builtin, or typed into a console
        source = getattr(metric, "__qualname__", type(metric).__name__)
    return {
        "program": _hash([type(program).__qualname__, signatures]),
        "trainset": _hash([dict(row.items()) if hasattr(row, "items") else row for row in trainset]),
        "metric": _hash(source),
    }


def write_given(run: Path, given: Mapping[str, str]) -> None:
    """Note what a run was given."""
    write_whole(run / GIVEN, json.dumps(given, indent=2) + "\n")


def check_given(run: Path, given: Mapping[str, str]) -> None:
    """Make sure that a run is resumed with what it was started with.

    Raises:
        SetupError: the program or the trainset is another one; or the metric, where the run has results by it. Without
            results, a metric that failed may be replaced.
    """
    if not (run / GIVEN).is_file():  # of an earlier version
        return
    before = read_json_object(run / GIVEN)
    for name, value in given.items():
        if before.get(name) != value and (name != "metric" or (run / _FINISHED).is_file()):
            raise SetupError(
                f"The run {run} was started with another {name}, and resuming it would mix the two: leave out resume= "
                "to start a new run."
            )
    write_given(run, given)


def _hash(value: Any) -> str:
    from synth_dspy.pipeline.saved import fingerprint  # which loads DSPy, and this module is imported for --help

    return fingerprint(to_jsonable_python(value, fallback=str))
