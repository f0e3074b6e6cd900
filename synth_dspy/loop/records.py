"""What the loop keeps, as values. Times are aware, in UTC; versions of a task are `v1`, `v2`, and so on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid5

Alias = Literal["champion", "challenger", "previous"]
Route = Literal["champion", "challenger", "shadow"]
FeedbackKind = Literal["thumb", "score", "comment", "correction", "better", "acceptance"]
GRADER = "grader"
"""The name under which a grader's agreement with people is recorded, as a reading."""


@dataclass(frozen=True, slots=True)
class Version:
    """A program of a task that was compiled once and never changes.

    Attributes:
        run: the folder of the run that made it.
        parent: the version that was the champion when this one was registered.
        program: SHA-256 of the saved program.
        weights: the fingerprint of its training; "" where the student's own weights answer.
        data: SHA-256 of each data set that it was made from: train, dev, test, documents, feedback.
        seeds: by what they seed.
    """

    id: str
    task: str
    run: str
    arm: str
    parent: str | None
    created: datetime
    program: str
    weights: str
    data: Mapping[str, str]
    seeds: Mapping[str, int]
    note: str = ""


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias was moved from the version `before` to `version`: by whom, why, on what evidence."""

    alias: Alias
    version: str | None
    before: str | None
    at: datetime
    by: str
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """A question that the service answered.

    Attributes:
        at: when it was answered or given up; not when it came, since the monitor takes what is newer than its last look
            and would miss what comes to the store with a time long past.
        route: whether the champion or the challenger gave the answer that the user saw, or the challenger another one
            that nobody saw.
        latency_s: seconds until the whole answer.
        cost_usd: None where the model has no price.
        person: the caller's pseudonym, where one was given.
    """

    id: str
    at: datetime
    version: str
    route: Route
    inputs: Mapping[str, Any]
    answer: str
    abstained: bool
    passages: tuple[str, ...]
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost_usd: float | None = None
    error: str | None = None
    person: str | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person, or a grader, thought of an answer.

    Attributes:
        request: the answer's request.
        value: by kind: a thumb up is True; a score is 1 to 5; a comment and a corrected answer are texts; the better of
            two answers is the id of its request, `request` being the other; a suggestion is accepted (True), rejected
            (False), or edited (its text).
    """

    id: str
    at: datetime
    request: str
    kind: FeedbackKind
    value: bool | int | str
    source: Literal["person", "ai"] = "person"
    rater: str | None = None

    @property
    def opinion(self) -> Feedback:
        """What was done with a suggestion, as the thumb or the correction that it amounts to; others as they are."""
        if self.kind != "acceptance":
            return self
        return replace(self, kind="correction" if isinstance(self.value, str) else "thumb")


@dataclass(frozen=True, slots=True)
class Reading:
    """A signal at one look: its statistic, the threshold that raises the alarm, and what it saw."""

    signal: str
    at: datetime
    statistic: float
    threshold: float
    alarm: bool
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transition:
    """A cycle went from one state to another: when, by whom, why, on what evidence.

    `number` counts a cycle's transitions from 1; the store takes each number once.
    """

    cycle: str
    before: str
    after: str
    at: datetime
    by: str
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    number: int = 1


@dataclass(frozen=True, slots=True)
class Deletion:
    """Requests and feedback that were deleted, by their ids."""

    at: datetime
    by: str
    reason: str
    requests: tuple[str, ...]
    feedback: tuple[str, ...]


def shadow_of(request: str) -> str:
    """The id of the request that is a challenger's copy of this one, so that the two answers can be paired."""
    return uuid5(UUID(request), "shadow").hex
