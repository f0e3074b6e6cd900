"""The synthesizer: question first, then answer, each a DSPy module of its own, prompted with labelled seeds.

Three kinds of candidates come out (self-instruct, Wang et al. 2023, adapted to a source text):

* *about a span* (for small teachers): an answer is found by pattern, the teacher writes the question to it;
* *free* (for capable teachers): the teacher writes a question about a chunk, then answers it from the chunk;
* *unanswerable*: a question like those that labelled seeds ask of other documents, about what this one does not say.

Which spans are worth asking about is decided before anything is written: those whose words resemble the words that
people asked about in other documents.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import dspy

from synth_dspy.corpus.chunks import sentences
from synth_dspy.lms.adapter import PlainAdapter
from synth_dspy.synthesis.demonstrations import Choice, Demonstrations, Shot
from synth_dspy.synthesis.pipeline import candidate_id, evenly, unit_of
from synth_dspy.synthesis.samples import draw, first_passing, kept_by
from synth_dspy.synthesis.spans import Patterns, beside, excerpt, find_spans
from synth_dspy.task import Candidate, Filter, Item

SPAN, FREE, SILENT = "span", "free", "silent"
SHOT_WORDS = 30
CONSIDERED = 3
"""Items looked at for every candidate that is wanted."""
SAMPLING = {"temperature": 0.3, "top_p": 0.9}


class WriteQuestion(dspy.Signature):  # type: ignore[misc]
    """Write the question that the answer answers. Use the words of the text.
    Do not put the answer into the question."""

    text: str = dspy.InputField()
    answer: str = dspy.InputField()
    question: str = dspy.OutputField()


class WriteFreely(dspy.Signature):  # type: ignore[misc]
    """Write one question that the text answers with a short fact, as somebody would ask who has not read it."""

    text: str = dspy.InputField()
    question: str = dspy.OutputField()


class ExtractAnswer(dspy.Signature):  # type: ignore[misc]
    """Answer the question with a few words copied from the text."""

    text: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Synthesizer(dspy.Module):  # type: ignore[misc]
    """Writes candidates; `plan` chooses what about, `forward` writes about one unit.

    Args:
        patterns: what can be asked for, by kind.
        seeds: labelled examples of the training groups with `group`, `question`, `answer`, `references`, `spans`,
            `passages`, `category`, `answer_type`.
        embed: texts to unit vectors.
        abstention: the answer to an unanswerable question.
        free: whether the teacher writes questions about chunks instead of spans.
        unanswerable: share of the candidates that shall be unanswerable.
        count: demonstrations for each call.
        samples: most questions written about a span; no more are once one passes the checks.
        checks: filters without model calls.
        seed: seed of what is chosen at random.
    """

    def __init__(
        self,
        patterns: Patterns,
        seeds: Sequence[dspy.Example],
        embed: Callable[[Sequence[str]], Any],
        *,
        abstention: str,
        free: bool = False,
        unanswerable: float = 0.12,
        count: int = 4,
        samples: int = 1,
        checks: Sequence[Filter] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.patterns = patterns
        self.abstention = abstention
        self.free = free
        self.unanswerable = unanswerable
        self.seed = seed
        self.count = count
        self.samples = samples
        self.checks = list(checks)
        self.shots = [shot for example in seeds if (shot := as_shot(example, patterns))]
        self.seeds = list(seeds)
        self.answered = {(example.group, example.category) for example in seeds if example.references}
        self.demonstrations = Demonstrations(self.shots, embed, count)
        self.write = dspy.Predict(WriteQuestion)
        self.write_freely = dspy.Predict(WriteFreely)
        self.answer = dspy.Predict(ExtractAnswer)
        self.adapter = PlainAdapter()
        self.decoding = {"max_tokens": 32, "temperature": 0.0, "stop": ["\n"]}

    # What to write about

    def plan(self, items: Sequence[Item], limit: int | None) -> list[Item]:
        """Units to write about: items whose `meta` says what is asked for. At most `limit`, even over the groups."""
        silent = self._silent_units(items)
        if limit is not None:
            items = evenly(items, CONSIDERED * limit)  # long documents hold thousands of spans, and each is embedded
        wanted = self._units_about_chunks(items) if self.free else self._units_about_spans(items)
        if limit is None:
            return wanted + silent
        few = min(len(silent), round(limit * self.unanswerable))
        chosen = _best_of_each_group(wanted, limit - few) + _best_of_each_group(silent, few)
        return _apart(chosen)

    def _units_about_spans(self, items: Sequence[Item]) -> list[Item]:
        units = []
        for item in items:
            found = find_spans(item.text, self.patterns)
            for kind in dict.fromkeys(span.kind for span in found):
                spans = [span for span in found if span.kind == kind]
                texts = [excerpt(item.text, span.start, span.end) for span in spans]
                choices = self.demonstrations.choose(kind, texts, item.group)
                for span, text, choice in zip(spans, texts, choices, strict=True):
                    alone = sum(other.text in text for other in spans) == 1
                    # What is said of a span is said close by; where there is another like it, closer still.
                    near = beside(item.text, span.start, span.end, *((8, 6) if alone else (6, 1)))
                    meta = {"mode": SPAN, "kind": kind, "span": span, "text": text, "near": near, **_chosen(choice)}
                    units.append(unit_of(item, f"{span.start}-{span.end}", meta))
        return units

    def _units_about_chunks(self, items: Sequence[Item]) -> list[Item]:
        units = []
        for item in items:
            shots = [shot for shot in self.shots if shot.group != item.group]
            shots = random.Random(f"{self.seed} {item.group}").sample(shots, min(self.count, len(shots)))
            choice = Choice("", float(len(item.text.split()) > 15), tuple(shots))
            units.append(unit_of(item, FREE, {"mode": FREE, "kind": "", **_chosen(choice)}))
        return units

    def _silent_units(self, items: Sequence[Item]) -> list[Item]:
        """For each group: what seeds ask of other groups, in categories that nobody answered here."""
        first: dict[str, Item] = {}
        for item in items:
            first.setdefault(item.group, item)
        units = []
        for group, item in first.items():
            asked = [e for e in self.seeds if e.group != group and (group, e.category) not in self.answered]
            random.Random(f"{self.seed} {group}").shuffle(asked)
            for example in {example.category: example for example in asked}.values():
                choice = Choice(example.category, 0.0, ())
                meta = {"mode": SILENT, "kind": "none", "like": example, **_chosen(choice)}
                units.append(unit_of(item, example.id, meta))
        return units

    # Writing

    def forward(self, item: Item) -> list[Candidate]:
        """The candidates of one unit that `plan` made; of a plain item, those of its units."""
        mode = item.meta.get("mode")
        if mode is None:
            return [candidate for unit in self.plan([item], None) for candidate in self.forward(unit)]
        with dspy.context(adapter=self.adapter):
            return [{SPAN: self._about_span, FREE: self._about_chunk, SILENT: self._about_nothing}[mode](item)]

    def _about_span(self, unit: Item) -> Candidate:
        span, text, choice = unit.meta["span"], unit.meta["text"], unit.meta["choice"]

        def candidate(question: str) -> Candidate:
            return _candidate(unit, question, span.text, [span.text], span.kind, text, choice.category)

        questions = (self.ask(text, span.text, choice, **draw(i, SAMPLING)) for i in range(self.samples))
        return candidate(first_passing(questions, lambda question: kept_by(self.checks, candidate(question))) or "")

    def _about_chunk(self, unit: Item) -> Candidate:
        shots = unit.meta["choice"].shots
        demos = [dspy.Example(text=shot.excerpt, question=shot.question) for shot in shots]
        question = _one_line(self.write_freely(text=unit.text, demos=demos, config=self.decoding).question)
        answer = self.answer_from(unit.text, question, shots)
        return _candidate(unit, question, answer, [answer], "", unit.text, "")

    def _about_nothing(self, unit: Item) -> Candidate:
        like = unit.meta["like"]
        return _candidate(unit, like.question, self.abstention, [], "none", "", like.category)

    def ask(self, text: str, answer: str, choice: Choice, **decoding: Any) -> str:
        """The teacher's question to an answer in a text."""
        demos = [dspy.Example(text=s.excerpt, answer=s.answer, question=s.question) for s in choice.shots]
        with dspy.context(adapter=self.adapter):
            said = self.write(text=text, answer=answer, demos=demos, config={**self.decoding, **decoding})
        return _one_line(said.question)

    def answer_from(self, text: str, question: str, shots: Sequence[Shot] = ()) -> str:
        """The teacher's answer to a question from a text."""
        demos = [dspy.Example(text=s.excerpt, question=s.question, answer=s.answer) for s in shots]
        with dspy.context(adapter=self.adapter):
            said = self.answer(text=text, question=question, demos=demos, config=self.decoding)
        return _one_line(said.answer)


def as_shot(example: dspy.Example, patterns: Patterns) -> Shot | None:
    """A labelled seed as a demonstration, or None if it has no answer or its answer's place is not in its passages."""
    passages = str(example.get("passages") or "")
    if not example.references:
        return None
    # The answer's own words, an accepted form of them, or else the span that holds it ("Spanish law" for "Spain").
    wordings = [example.answer, *example.references, *(example.get("spans") or [])]
    found = ((passages.casefold().find(str(wording).casefold()), str(wording)) for wording in wordings)
    at, answer = next(((at, wording) for at, wording in found if at >= 0), (-1, ""))
    if at < 0:
        return None
    kind = str(example.get("answer_type") or "")
    if kind not in patterns:
        kind = next((span.kind for span in find_spans(passages, patterns) if span.start <= at < span.end), kind)
    text = excerpt(passages, at, at + len(answer), SHOT_WORDS)
    return Shot(example.group, example.category, kind, text, example.question, str(example.answer))


def sentences_of(text: str) -> list[str]:
    """All sentences of a text of several paragraphs."""
    return [sentence for line in text.splitlines() for sentence in sentences(line)]


def _chosen(choice: Choice) -> dict[str, Any]:
    return {"choice": choice, "category": choice.category}


def _candidate(
    unit: Item, question: str, answer: str, references: list[str], kind: str, source: str, category: str
) -> Candidate:
    fields = {
        "question": question,
        "answer": answer,
        "references": references,
        "spans": [source] if references else [],
        "document": unit.group,
        "answer_type": kind,
        "source": source,
        "near": unit.meta.get("near", source),
        "passages": unit.text,
    }
    return Candidate(candidate_id(unit, 0), unit, fields, category)


def _best_of_each_group(units: Sequence[Item], limit: int) -> list[Item]:
    """The same number from every group as nearly as possible, those most like labelled seeds first."""
    queues: defaultdict[str, list[Item]] = defaultdict(list)
    for unit in units:
        queues[unit.group].append(unit)
    for queue in queues.values():
        queue.sort(key=lambda u: (u.meta["choice"].similarity, hashlib.sha256(u.id.encode()).hexdigest()))
    chosen: list[Item] = []
    while len(chosen) < limit and any(queues.values()):
        for group in sorted(queues):
            if queues[group] and len(chosen) < limit:
                chosen.append(queues[group].pop())
    return chosen


def _apart(units: Sequence[Item]) -> list[Item]:
    """First one unit for every set of demonstrations, then the second ones, and so on.

    A server with prefix caching reads demonstrations once, but only if it has read them when the next request comes:
    requests under way together do not share.
    """
    turn: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    keyed = []
    for unit in sorted(units, key=lambda unit: (unit.meta["mode"], unit.meta["kind"], unit.meta["category"], unit.id)):
        shown = tuple(shot.question for shot in unit.meta["choice"].shots)
        keyed.append((turn[shown], unit))
        turn[shown] += 1
    return [unit for _, unit in sorted(keyed, key=lambda pair: pair[0])]


def _one_line(text: str) -> str:
    return " ".join(str(text).split("\n")[0].split())
