"""The house: what its assistant may talk about, the rules it keeps, how it speaks, and labelled questions.

A folder holds it, as `data/bank` does:

    house.toml       what (it is), role, short (the tuned assistant's whole prompt), decline, general; borderline
    topics.jsonl     topic, name, in_scope, about, subtopics (subtopic, name, answer)
    rules.md tone.md plain text with checks, see `rules`
    examples.jsonl   topic, question, in_scope, references; conversation, answer, subtopic and kind where there are any

All but `borderline` are required. Files are read on demand; `check` reads everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import BOOL, FILLED, FILLED_TEXTS, ID, OBJECTS, TEXT, read_rows
from synth_dspy.core.io.reading import read_toml
from synth_dspy.domains.assistant.rules import Rule, read_rules, violations

KINDS = ("plain", "borderline", "attempt")
"""Kinds of questions: ordinary, at the border of the scope, an attempt to talk the assistant out of its rules."""
_TOPIC = {"topic": FILLED, "name": FILLED, "in_scope": BOOL, "about": FILLED, "subtopics": OBJECTS}
_EXAMPLE = {"id": ID, "topic": FILLED, "question": FILLED, "in_scope": BOOL, "references": FILLED_TEXTS}
_WORDS = ("role", "short", "decline", "general")
_ARTICLE = re.compile(r"(?:an?|the)\s+(?=\S)")
_OPTIONAL = {"conversation": TEXT, "answer": FILLED, "subtopic": TEXT, "kind": TEXT, "breaks": TEXT}


@dataclass(frozen=True, slots=True)
class Subtopic:
    """A part of a topic, with the house's answer, or its words for declining."""

    id: str
    name: str
    answer: str


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of customers' questions, in or out of scope."""

    id: str
    name: str
    in_scope: bool
    about: str
    subtopics: tuple[Subtopic, ...]


@dataclass(frozen=True)
class House:
    """A folder as described above."""

    folder: Path

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics of customers' questions, in and out of scope."""
        return _topics(self.folder / "topics.jsonl")

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules for answers."""
        return _rules(self.folder / "rules.md")

    @property
    def tone(self) -> tuple[Rule, ...]:
        """The tone of answers, as rules too."""
        return _rules(self.folder / "tone.md")

    def words(self, key: str) -> str:
        """An entry of house.toml.

        Raises:
            SetupError: it is missing.
        """
        path = self.folder / "house.toml"
        value = _words(path).get(key)
        if not isinstance(value, str) or not value.strip():
            raise SetupError(f'{path} lacks {key!r}: add {key} = "..." to it.')
        return value

    @property
    def what(self) -> str:
        """What the house is, for prompts, with its article: "a bank".

        Raises:
            SetupError: house.toml does not say so.
        """
        path = self.folder / "house.toml"
        value = _words(path).get("what")
        if not isinstance(value, str) or not _ARTICLE.match(value):
            problem = "does not say what the house is" if value is None else f"says that the house is {value!r}"
            raise SetupError(f'{path} {problem}: write it with its article, such as what = "a bank".')
        return value

    @property
    def noun(self) -> str:
        """What the house is, without its article."""
        return _ARTICLE.sub("", self.what, count=1)

    @property
    def borderline(self) -> str:
        """A description of questions that sound in scope but are not; by default, the topics out of scope."""
        if "borderline" in _words(self.folder / "house.toml"):
            return self.words("borderline")
        return "; ".join(topic.name for topic in self.topics if not topic.in_scope)

    def check(self) -> None:
        """Read the whole house, so that errors are reported before anything is learned from it.

        Raises:
            SetupError: a file is missing or malformed; nothing is in scope, or nothing out of scope; or the house's own
                answers break its rules, so that they cannot be learned.
        """
        for key in _WORDS:
            self.words(key)
        _ = self.what, self.borderline
        _check_scopes(self.folder / "topics.jsonl", "topic", {topic.in_scope for topic in self.topics})
        rows = self.examples()
        _check_scopes(self.folder / "examples.jsonl", "question", {row["in_scope"] for row in rows})
        self._check_answers(rows)

    def _check_answers(self, rows: Sequence[Mapping[str, Any]]) -> None:
        statements = [(f"{key} in house.toml", self.words(key)) for key in ("decline", "general")]
        for topic in self.topics:
            statements += [
                (f"subtopic {part.id!r} of {topic.id!r} in topics.jsonl", part.answer) for part in topic.subtopics
            ]
        for row in rows:
            answers = [row["answer"]] if row.get("answer") else row["references"][:1]
            statements += [(f"question {row['id']!r} of examples.jsonl", answer) for answer in answers]
        rules = (*self.rules, *self.tone)
        broken = [(place, rule_ids[0]) for place, answer in statements if (rule_ids := violations(answer, rules))]
        if broken:
            place, rule = broken[0]
            raise SetupError(
                f"The house {self.folder} breaks its own rules in {len(broken)} of its answers, first the rule "
                f"{rule!r} in {place}: correct the answers, or the checks in rules.md and tone.md."
            )

    def instructions(self) -> str:
        """The instructions for an untuned assistant: role, scope, rules and tone."""
        scope = "; ".join(topic.name for topic in self.topics if topic.in_scope)
        rules = " ".join(rule.text for rule in self.rules)
        tone = " ".join(rule.text for rule in self.tone)
        decline = f"To decline, write: {self.words('decline')}"
        return "\n".join((self.words("role"), f"In scope: {scope}.", f"Rules: {rules}", f"Tone: {tone}", decline))

    def examples(self, path: Path | None = None) -> list[dict[str, Any]]:
        """Labelled questions of the house, or of another file in the same form.

        Raises:
            SetupError: a line is not as it should be; names the line and the field.
        """
        path = path or self.folder / "examples.jsonl"
        rows = read_rows(path, _EXAMPLE, optional=_OPTIONAL, unique="id")
        topics = {topic.id for topic in self.topics}
        for row in rows:
            wrong = _wrong(row, topics)
            if wrong:
                raise SetupError(f"{path}, question {row['id']!r}: {wrong}")
        return rows


def _check_scopes(path: Path, what: str, scopes: Collection[bool]) -> None:
    for scope, lesson in ((True, "answer"), (False, "decline")):
        if scope not in scopes:
            raise SetupError(
                f'{path} has no {what} with "in_scope": {str(scope).lower()}: add some, or nothing teaches the '
                f"assistant to {lesson}."
            )


def _wrong(row: Mapping[str, Any], topics: Sequence[str] | set[str]) -> str | None:
    if row["topic"] not in topics:
        return f"there is no topic {row['topic']!r} in topics.jsonl; correct it, or add the topic."
    if row["in_scope"] and not row["references"]:
        return "it is in scope, so add at least one accepted answer to references."
    if not row["in_scope"] and row["references"]:
        return "it is out of scope, so leave references empty (the words that decline go into answer)."
    if row.get("kind") and row["kind"] not in KINDS:
        return f"kind is {row['kind']!r}; make it one of {', '.join(KINDS)}."
    return None


@lru_cache(maxsize=16)
def _rules(path: Path) -> tuple[Rule, ...]:
    return read_rules(path)


@lru_cache(maxsize=16)
def _words(path: Path) -> Mapping[str, Any]:
    return read_toml(path, "The house")


@lru_cache(maxsize=16)
def _topics(path: Path) -> tuple[Topic, ...]:
    rows = read_rows(path, _TOPIC, unique="topic")
    topics = []
    for row in rows:
        for part in row["subtopics"]:
            missing = [key for key in ("subtopic", "name", "answer") if FILLED(part.get(key))]
            if missing:
                raise SetupError(
                    f"{path}, topic {row['topic']!r}: a subtopic lacks {missing[0]!r}; add it, a string that is not "
                    "empty."
                )
        if not row["subtopics"]:
            raise SetupError(f"{path}, topic {row['topic']!r}: subtopics is empty; add at least one.")
        parts = tuple(Subtopic(part["subtopic"], part["name"], part["answer"]) for part in row["subtopics"])
        topics.append(Topic(row["topic"], row["name"], row["in_scope"], row["about"], parts))
    return tuple(topics)
