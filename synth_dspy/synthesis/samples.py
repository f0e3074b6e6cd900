"""Rejection sampling: the greedy reply first, then a few samples, until one passes the checks.

The samples share their prompt, so with prefix caching each costs only its few output tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from synth_dspy.core.knowledge import Candidate
from synth_dspy.core.protocols import Filter

Trial = TypeVar("Trial")


def draw(number: int, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Decoding arguments of the call with this number: none for call 0, which is greedy, else `sampling`."""
    return {"rollout_id": number, **sampling} if number else {}


def first_passing(trials: Iterable[Trial], passes: Callable[[Trial], bool]) -> Trial | None:
    """The first trial that passes; later ones are not made. If none passes, the first non-empty one, or None."""
    first: Trial | None = None
    for trial in trials:
        if passes(trial):
            return trial
        first = first or trial
    return first


def kept_by(checks: Sequence[Filter], candidate: Candidate) -> bool:
    """Whether every check keeps the candidate."""
    return all(check(candidate).keep for check in checks)
