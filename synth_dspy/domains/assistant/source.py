"""The source of a scoped assistant: subtopics to write about, labelled questions, and real ones for the scope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.knowledge import Item, Knowledge
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.assistant.house import House, Subtopic, Topic
from synth_dspy.domains.assistant.real import RealQuestion, balanced, is_real, read_real
from synth_dspy.domains.assistant.units import SubtopicItem

INPUTS = ("question", "conversation")
EACH = 5
"""Most real questions per intent."""


@dataclass(frozen=True)
class Topics:
    """A house's topics and labelled questions; `group` is the topic.

    Attributes:
        house: its folder.
        questions: Banking77 or CLINC150, whose intents are groups in addition to the house's topics; balanced between
            in and out of scope if the data set has both.
    """

    house: House
    questions: Path | None = None

    def check(self) -> None:
        """See `House.check`."""
        self.house.check()

    def read(self, limit: int | None = None) -> Knowledge:
        """Items are subtopics; `limit` takes that many topics, alternately in and out of scope, in the order of their
        hashes.

        Raises:
            SetupError: a file is missing or malformed.
        """
        topics = _limited(self.house.topics, limit)
        kept = {topic.id for topic in topics}
        items: list[Item] = [_item(topic, part) for topic in topics for part in topic.subtopics]
        labelled = [self.example(row) for row in self.house.examples() if row["topic"] in kept]
        if self.questions is not None:
            real = balanced(read_real(self.questions), EACH)
            groups = {question.group: question for question in real}
            items += [_intent(group, question) for group, question in groups.items()]
            labelled += [self.real_example(question) for question in real]
        return Knowledge(items=items, labelled=labelled)

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled questions of another file: in the house's form, or Banking77 or CLINC150.

        Raises:
            SetupError: a line is malformed; names the line and the field.
        """
        if is_real(path):
            return [self.real_example(question) for question in balanced(read_real(path), EACH)]
        return [self.example(row) for row in self.house.examples(path)]

    def example(self, row: Mapping[str, Any]) -> dspy.Example:
        """A labelled question of the house as a row. Out of scope it has no references, and the answer declines."""
        references = list(row["references"])
        kind = row.get("kind") or "plain"
        category = ("in scope" if row["in_scope"] else "out of scope") if kind == "plain" else kind
        return dspy.Example(
            id=str(row["id"]),
            group=row["topic"],
            subtopic=row.get("subtopic") or "",
            question=row["question"],
            conversation=row.get("conversation") or "",
            answer=row.get("answer") or (references[0] if references else self.house.words("decline")),
            references=references,
            expected={"in_scope": row["in_scope"], "reference": True, "breaks": row.get("breaks") or ""},
            category=category,
            answer_type="answer" if row["in_scope"] else "decline",
            origin="gold",
        ).with_inputs(*INPUTS)

    def real_example(self, question: RealQuestion) -> dspy.Example:
        """A real question as a row: whether to answer is known, the answer is not (`expected.reference`)."""
        answer = self.house.words("general" if question.in_scope else "decline")
        return dspy.Example(
            id=question.id,
            group=question.group,
            subtopic=question.intent,
            question=question.text,
            conversation="",
            answer=answer,
            references=[answer] if question.in_scope else [],
            spans=[""],  # all have the same answer: rows are compared by their questions alone
            expected={"in_scope": question.in_scope, "reference": False, "breaks": ""},
            category=f"{question.source}, {'in scope' if question.in_scope else 'out of scope'}",
            answer_type="answer" if question.in_scope else "decline",
            origin="gold",
        ).with_inputs(*INPUTS)


def _limited(topics: Sequence[Topic], limit: int | None) -> list[Topic]:
    """The first topics of both kinds alternately, so that few topics include both."""
    order = sorted(topics, key=lambda topic: hash_order(topic.id))
    turns: dict[str, tuple[int, bool]] = {}
    for in_scope in (True, False):
        for turn, topic in enumerate(topic for topic in order if topic.in_scope is in_scope):
            turns[topic.id] = (turn, not in_scope)
    kept = {topic.id for topic in sorted(order, key=lambda topic: turns[topic.id])[:limit]}
    return [topic for topic in topics if topic.id in kept]


def _item(topic: Topic, part: Subtopic) -> SubtopicItem:
    return SubtopicItem(f"{topic.id}/{part.id}", topic.id, part.answer, topic, part)


def _intent(group: str, question: RealQuestion) -> Item:
    """An intent of a data set: labelled questions are split by it, nothing is written about it."""
    return Item(group, group, question.intent.replace("_", " "))
