"""Synthesis for assistants: the synthesizer of customers' questions and responses, and the filters they must pass.

There are two ways. A capable teacher writes both (`chain.py`). The small default model can do neither freely, but it
can write one more line like four examples: it gets a topic and labelled questions of the same kind about other topics,
and filters reject what does not fit; responses are the house's own sentences about the subtopic, checked by the rules.
In both, questions and responses are separate modules.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, TEXT, read_rows
from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.core.protocols import Filter
from synth_dspy.core.resources import Resources
from synth_dspy.domains.assistant.chain import ATTEMPT, BORDERLINE, IN, OUT, ChainQuestions, ChainResponses
from synth_dspy.domains.assistant.diversity import diversity
from synth_dspy.domains.assistant.filters import checks, filters_of
from synth_dspy.domains.assistant.house import House, Subtopic, Topic
from synth_dspy.domains.assistant.small_teacher import HouseResponses, SeededQuestions
from synth_dspy.domains.assistant.source import INPUTS
from synth_dspy.domains.assistant.units import QuestionUnit, SubtopicItem
from synth_dspy.synthesis.pipeline import candidate_id

SHARES = {IN: 0.5, OUT: 0.26, BORDERLINE: 0.12, ATTEMPT: 0.12}
"""Shares of the candidates, by kind."""
CONVERSATIONS = 5
"""One question in this many follows an earlier one and its answer."""
SHOWN = 4
SAMPLES = 3
PER_CALL = 4
"""Questions that a capable teacher writes at once."""


class AssistantSynthesizer(dspy.Module):
    """Questions, then responses. `plan` spreads units over topics and kinds.

    Args:
        house: topics, rules, tone.
        questions: the module that writes questions.
        responses: the module that writes responses.
        seeds: labelled questions of the training topics.
        embed: texts to unit vectors.
        tries: filters without model calls that a small teacher's question must pass, or it writes another.
        earlier: questions of an earlier run, whose responses alone are written.
        seed: for random choices.
    """

    def __init__(
        self,
        house: House,
        questions: dspy.Module,
        responses: dspy.Module,
        seeds: Sequence[dspy.Example],
        embed: Any,
        *,
        tries: Sequence[Filter] = (),
        earlier: Sequence[dict[str, Any]] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.house = house
        self.questions = questions
        self.responses = responses
        self.seeds = list(seeds)
        self.embed = embed
        self.tries = list(tries)
        self.earlier = list(earlier)
        self.seed = seed
        self.names = {topic.id: topic for topic in house.topics}
        self._written: list[dict[str, Any]] = []
        self._planned: list[str] = []

    @property
    def free(self) -> bool:
        """Whether the teacher writes several questions at once, and the responses."""
        return isinstance(self.questions, ChainQuestions)

    @property
    def findings(self) -> list[str]:
        """A sentence for the report on the diversity of the written questions, before any filter."""
        if not self._written:
            return []
        rows = sorted(self._written, key=lambda row: row["question"])
        figures = diversity(rows, self.embed, expected=self._planned)
        return [
            f"The {figures.n} questions written cover {figures.coverage:.0%} of the training topics; two of them are "
            f"{figures.spread:.2f} apart (mean cosine distance), the nearest {figures.nearest:.2f}, and "
            f"{figures.near_duplicates:.0%} nearly repeat another."
        ]

    def plan(self, items: Sequence[Item], limit: int | None) -> list[QuestionUnit]:
        """Units to write about, spread over topics and kinds, for at most `limit` candidates."""
        parts = [item for item in items if isinstance(item, SubtopicItem)]
        self._planned = sorted({item.group for item in parts})
        if self.earlier:
            return self._earlier_units(parts)[:limit]
        total = limit if limit is not None else 2 * len(parts)
        units: list[QuestionUnit] = []
        for kind, share in SHARES.items():
            mine = _by_turns([item for item in parts if item.topic.in_scope == (kind != OUT)], self.seed)
            if mine:
                number = round(total * share / (PER_CALL if self.free else 1))
                units += [_unit(mine[i % len(mine)], kind, i // len(mine), i) for i in range(max(1, number))]
        return units[: None if self.free else total]

    def forward(self, unit: QuestionUnit | Item) -> list[Candidate[QuestionUnit]]:
        """The candidates of one unit from `plan`, or of all units of an item."""
        if isinstance(unit, Item):
            return [candidate for own in self.plan([unit], None) for candidate in self.forward(own)]
        conversation = self._conversation(unit)
        if unit.earlier is not None:
            questions, conversation = [unit.earlier["question"]], unit.earlier.get("conversation") or ""
        elif self.free:
            questions = self._write_freely(unit)
        else:
            questions = [self._write_checked(unit, conversation)]
        candidates = [self._respond(unit, question, conversation, i) for i, question in enumerate(questions)]
        self._written += [{"question": one.fields["question"], "group": unit.group} for one in candidates]
        return candidates

    def _write_freely(self, unit: QuestionUnit) -> list[str]:
        topic, part, kind = unit.topic, unit.subtopic, unit.kind
        own = [seed.question for seed in self.seeds if seed.group == topic.id and _kind(seed) == kind]
        examples = own or [question for _, question in self._shown(unit)]
        written = self.questions(topic=topic, part=part, kind=kind, examples=examples, number=PER_CALL, turn=unit.turn)
        return list(written.questions)

    def _write_checked(self, unit: QuestionUnit, conversation: str) -> str:
        """The first of a few samples that passes the checks, else the first sample."""
        shown, about, first = self._shown(unit), _about(unit), ""
        for turn in range(SAMPLES):
            question = self.questions(about=about, shown=shown, turn=unit.turn * SAMPLES + turn).questions[0]
            first = first or question
            trial = self._candidate(unit, question, conversation, "", 0)
            if all(check(trial).keep for check in self.tries):
                return str(question)
        return str(first)

    def _respond(self, unit: QuestionUnit, question: str, conversation: str, number: int) -> Candidate[QuestionUnit]:
        facts = unit.subtopic.answer if unit.kind == IN else ""
        if unit.kind == OUT and not self.free:  # a topic out of scope has its own words for declining
            answer, decided = unit.subtopic.answer, False
        else:
            response = self.responses(question=question, conversation=conversation, house_says=facts)
            answer, decided = response.answer, bool(response.in_scope)
        return self._candidate(unit, question, conversation, answer, number, decided)

    def _candidate(
        self,
        unit: QuestionUnit,
        question: str,
        conversation: str,
        answer: str,
        number: int,
        decided: bool | None = None,
    ) -> Candidate[QuestionUnit]:
        should = unit.kind == IN
        fields = {
            "question": question,
            "conversation": conversation,
            "answer": answer,
            "references": [answer] if should else [],
            "expected": {"in_scope": should, "reference": True, "breaks": ""},
            "answer_type": "answer" if should else "decline",
            "subtopic": unit.subtopic.id,
            "decided": should if decided is None else decided,
        }
        return Candidate(candidate_id(unit, number), unit, fields, unit.kind, INPUTS)

    def _shown(self, unit: QuestionUnit) -> list[tuple[str, str]]:
        """Labelled questions of the same kind about other topics; of any kind if there are none."""
        others = [seed for seed in self.seeds if seed.group != unit.group and not seed.get("conversation")]
        mine = [seed for seed in others if _kind(seed) == unit.kind] or others
        picked = random.Random(f"{self.seed} {unit.kind} {unit.turn}").sample(mine, min(SHOWN, len(mine)))
        return [(self._about_seed(seed), seed.question) for seed in picked]

    def _about_seed(self, seed: dspy.Example) -> str:
        topic = self.names.get(seed.group)
        if topic is None:
            return str(seed.get("subtopic") or seed.group).replace("_", " ")
        part = next((part for part in topic.subtopics if part.id == seed.get("subtopic")), None)
        return _named(topic, part)

    def _conversation(self, unit: QuestionUnit) -> str:
        """The conversation so far, for one unit in `CONVERSATIONS`: an earlier in-scope question and its answer."""
        if unit.number % CONVERSATIONS != CONVERSATIONS - 1:
            return ""
        before = [seed for seed in self.seeds if seed.references and not seed.get("conversation")]
        same = [seed for seed in before if seed.group == unit.group and seed.subtopic != unit.subtopic.id]
        if not before:
            return ""
        seed = random.Random(f"{self.seed} {unit.id}").choice(same or before)
        return f"Customer: {seed.question}\nAssistant: {seed.answer}"

    def _earlier_units(self, items: Sequence[SubtopicItem]) -> list[QuestionUnit]:
        by_id = {item.id: item for item in items}
        units = []
        for number, row in enumerate(self.earlier):
            item = by_id.get("/".join(str(row["item"]).split("/")[:2]))
            if item is not None:
                units.append(_unit(item, row["category"], 0, number, row))
        return units


def assistant_synthesizer(
    house: House, earlier: Path | None, resources: Resources, free: bool | None = None
) -> AssistantSynthesizer:
    """The module that writes questions and responses.

    Args:
        house: topics, rules, tone; compiled prompts in its folder `prompts` (questions.json, responses.json) are used.
        earlier: candidates of an earlier run, whose responses alone are written.
        resources: seeds, embedder and seed.
        free: let the teacher write both freely; by default if it is another model than the student.
    """
    embed = resources.embedder.embed
    free = is_capable(resources) if free is None else free
    questions = ChainQuestions(house) if free else SeededQuestions(house)
    responses = ChainResponses(house) if free else HouseResponses(house, resources.seeds, embed)
    for name, module in (("questions", questions), ("responses", responses)):
        if free and (path := house.folder / "prompts" / f"{name}.json").is_file():
            module.load(str(path))
    return AssistantSynthesizer(
        house,
        questions,
        responses,
        resources.seeds,
        embed,
        tries=checks(house, resources),
        earlier=_read_earlier(earlier) if earlier else (),
        seed=resources.seed,
    )


def assistant_filters(house: House, resources: Resources) -> list[Filter]:
    """The filters for a candidate, cheapest first."""
    return filters_of(house, resources)


def is_capable(resources: Resources) -> bool:
    """Whether the teacher is another model than the student, and therefore presumed capable."""
    return bool(resources.teacher.model != resources.student.model)


def _read_earlier(path: Path) -> list[dict[str, Any]]:
    rows = read_rows(path, {"question": FILLED, "item": FILLED, "category": FILLED}, optional={"conversation": TEXT})
    unknown = [row["category"] for row in rows if row["category"] not in SHARES]
    if unknown:
        raise SetupError(f"{path} has a question of the category {unknown[0]!r}; there are {', '.join(SHARES)}.")
    return rows


def _unit(
    item: SubtopicItem, kind: str, turn: int, number: int, earlier: Mapping[str, Any] | None = None
) -> QuestionUnit:
    name = f"{item.id}/{kind}/{number}"
    return QuestionUnit(name, item.group, item.text, item.topic, item.subtopic, kind, turn, number, earlier)


def _by_turns(items: Sequence[SubtopicItem], seed: int) -> list[SubtopicItem]:
    """A first item of every topic, then the second ones, and so on; subtopics and topics in an order of the seed."""
    groups: dict[str, list[SubtopicItem]] = {}
    for item in items:
        groups.setdefault(item.group, []).append(item)
    rng = random.Random(seed)
    lists = list(groups.values())
    rng.shuffle(lists)
    for members in lists:
        rng.shuffle(members)
    return [item for row in zip_longest(*lists) for item in row if item is not None]


def _about(unit: QuestionUnit) -> str:
    return _named(unit.topic, unit.subtopic if unit.kind in (IN, OUT) else None)


def _named(topic: Topic, part: Subtopic | None) -> str:
    return f"{topic.name}: {part.name}" if part else topic.name


def _kind(seed: dspy.Example) -> str:
    if seed.category in (BORDERLINE, ATTEMPT):
        return str(seed.category)
    return IN if seed.references else OUT
