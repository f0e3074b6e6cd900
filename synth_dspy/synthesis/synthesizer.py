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
from dataclasses import replace
from typing import Any

import dspy

from synth_dspy.corpus.chunks import sentences
from synth_dspy.lms.adapter import PlainAdapter
from synth_dspy.synthesis.demonstrations import Choice, Demonstrations, Shot
from synth_dspy.synthesis.pipeline import candidate_id
from synth_dspy.synthesis.spans import Patterns, excerpt, find_spans
from synth_dspy.task import Candidate, Filter, Item

SPAN, FREE, SILENT = "span", "free", "silent"
SAMPLING = {"temperature": 0.5, "top_p": 0.9}


class WriteQuestion(dspy.Signature):
    """Write the question that the answer answers. Use the words of the text. Do not put the answer into the question."""

    text: str = dspy.InputField()
    answer: str = dspy.InputField()
    question: str = dspy.OutputField()


class WriteFreely(dspy.Signature):
    """Write one question that the text answers with a short fact, as somebody would ask who has not read it."""

    text: str = dspy.InputField()
    question: str = dspy.OutputField()


class ExtractAnswer(dspy.Signature):
    """Answer the question with a few words copied from the text."""

    text: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Synthesizer(dspy.Module):
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
        samples: questions written about a span, of which the best is the candidate.
        checks: filters without model calls that a sample should pass to be the best.
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
        wanted = self._units_about_chunks(items) if self.free else self._units_about_spans(items)
        if limit is None:
            return wanted + silent
        few = min(len(silent), round(limit * self.unanswerable))
        chosen = _best_of_each_group(wanted, limit - few) + _best_of_each_group(silent, few)
        # Units with the same demonstrations one after another: their prompts begin alike and are read once.
        return sorted(chosen, key=lambda unit: (unit.meta["mode"], unit.meta["kind"], unit.meta["category"], unit.id))

    def _units_about_spans(self, items: Sequence[Item]) -> list[Item]:
        units = []
        for item in items:
            found = find_spans(item.text, self.patterns)
            for kind in dict.fromkeys(span.kind for span in found):
                spans = [span for span in found if span.kind == kind]
                texts = [excerpt(item.text, span.start, span.end) for span in spans]
                choices = self.demonstrations.choose(kind, texts, item.group)
                for span, text, choice in zip(spans, texts, choices, strict=True):
                    meta = {"mode": SPAN, "kind": kind, "span": span, "text": text, "choice": choice}
                    units.append(_unit(item, choice, meta, f"{span.start}-{span.end}"))
        return units

    def _units_about_chunks(self, items: Sequence[Item]) -> list[Item]:
        units = []
        for item in items:
            shots = [shot for shot in self.shots if shot.group != item.group]
            shots = random.Random(f"{self.seed} {item.group}").sample(shots, min(self.count, len(shots)))
            choice = Choice("", float(len(item.text.split()) > 15), tuple(shots))
            units.append(_unit(item, choice, {"mode": FREE, "kind": "", "choice": choice}, FREE))
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
                meta = {"mode": SILENT, "kind": "none", "choice": choice, "like": example}
                units.append(_unit(item, choice, meta, example.id))
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
        question = self._best(unit, text, span.text, choice)
        return _candidate(unit, question, span.text, [span.text], span.kind, text, choice.category)

    def _best(self, unit: Item, text: str, answer: str, choice: Choice) -> str:
        """The most likely question, or the one of several samples that is nearest in meaning to the text.

        Samples share their whole prompt: with prefix caching, each costs its few words of output only.
        """
        asked = [self.ask(text, answer, choice)]
        for i in range(1, self.samples):
            asked.append(self.ask(text, answer, choice, rollout_id=i, **SAMPLING))
        asked = list(dict.fromkeys(asked))
        if len(asked) == 1:
            return asked[0]
        likeness = self.demonstrations.embed(asked) @ self.demonstrations.embed([text])[0]
        span, kind = unit.meta["span"], unit.meta["kind"]

        def fitness(i: int) -> tuple[bool, float]:
            trial = _candidate(unit, asked[i], span.text, [span.text], kind, text, choice.category)
            return all(check(trial).keep for check in self.checks), float(likeness[i])

        return asked[max(range(len(asked)), key=fitness)]

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
    """A labelled seed as a demonstration, or None if its answer does not stand in its passages word for word."""
    passages = str(example.get("passages") or "")
    answer = str(example.answer)
    if not example.references or not passages:
        return None
    at = passages.find(answer)
    if at < 0:
        return None
    kind = str(example.get("answer_type") or "")
    if kind not in patterns:
        kind = next((span.kind for span in find_spans(passages, patterns) if span.start <= at < span.end), kind)
    text = excerpt(passages, at, at + len(answer))
    return Shot(example.group, example.category, kind, text, example.question, answer)


def sentences_of(text: str) -> list[str]:
    """All sentences of a text of several paragraphs."""
    return [sentence for line in text.splitlines() for sentence in sentences(line)]


def _unit(item: Item, choice: Choice, meta: dict[str, Any], part: str) -> Item:
    return replace(item, id=f"{item.id}/{part}", meta={**item.meta, **meta, "category": choice.category})


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


def _one_line(text: str) -> str:
    return " ".join(str(text).split("\n")[0].split())
