"""Asking again: the most likely reply first, then a few samples, until one passes the checks.

The samples of a prompt share all of it: with prefix caching, each costs its few words of output only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from synth_dspy.core.knowledge import Candidate
from synth_dspy.core.protocols import Filter

Trial = TypeVar("Trial")


def draw(number: int, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """What the how-many-eth call adds to its decoding: nothing to the first, which is greedy, else `sampling`."""
    return {"rollout_id": number, **sampling} if number else {}


def first_passing(trials: Iterable[Trial], passes: Callable[[Trial], bool]) -> Trial | None:
    """The first trial that passes, no more being made after it; else the first that is not empty, None without any."""
    first: Trial | None = None
    for trial in trials:
        if passes(trial):
            return trial
        first = first or trial
    return first


def kept_by(checks: Sequence[Filter], candidate: Candidate) -> bool:
    """Whether every check keeps the candidate."""
    return all(check(candidate).keep for check in checks)
