"""What a question is written about: a subtopic, and how the question stands to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synth_dspy.core.knowledge import Item
from synth_dspy.domains.assistant.house import Subtopic, Topic


@dataclass(frozen=True, slots=True)
class SubtopicItem(Item):
    """A subtopic of the house; its text is the house's answer."""

    topic: Topic
    subtopic: Subtopic


@dataclass(frozen=True, slots=True)
class QuestionUnit:
    """A question, or with a capable teacher several, of a kind about a subtopic.

    Attributes:
        id: the subtopic's, the kind and the number.
        group: the topic.
        text: the house's answer.
        topic: what it is about.
        subtopic: the part of it.
        kind: in scope, out of scope, borderline or attempt.
        turn: how often the subtopic has had a question of this kind before.
        number: of the unit among those of its kind.
        earlier: a candidate of an earlier run, whose question is taken as it is.
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
