"""Units of work: a subtopic, and the kind of question to write about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synth_dspy.core.knowledge import Item
from synth_dspy.domains.assistant.house import Subtopic, Topic


@dataclass(frozen=True, slots=True)
class SubtopicItem(Item):
    """A subtopic of the house; `text` is the house's answer."""

    topic: Topic
    subtopic: Subtopic


@dataclass(frozen=True, slots=True)
class QuestionUnit:
    """A question of some kind about a subtopic, or several with a capable teacher.

    Attributes:
        id: the subtopic's id, the kind and the number.
        group: the topic.
        text: the house's answer.
        topic: the topic of the question.
        subtopic: the part of the topic.
        kind: in scope, out of scope, borderline or attempt.
        turn: how many earlier units have the same subtopic and kind.
        number: the unit's number among those of its kind.
        earlier: a candidate of an earlier run, whose question is reused unchanged.
    """

    id: str
    group: str
    text: str
    topic: Topic
    subtopic: Subtopic
    kind: str
    turn: int
    number: int
    earlier: Mapping[str, Any] | None = None
