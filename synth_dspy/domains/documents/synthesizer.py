"""The synthesizer: question first, then answer, each a DSPy module of its own, prompted with labelled seeds.

Five kinds of candidates come out (self-instruct, Wang et al. 2023, adapted to a source text):

* *from a statement*: a rule turns a sentence round, without the teacher;
* *about a span* (for small teachers): a pattern finds an answer, and the teacher writes its question;
* *free* (for capable teachers): the teacher writes a question about a chunk, then answers it from the chunk;
* *transferred* (for capable teachers): a labelled seed's question about another document, which the teacher answers
  from the passages that a search for it returns here: what users ask, not what a chunk suggests;
* *unanswerable*: a question about another document, of a labelled seed or made from a statement, that this one does not
  answer.

Spans to ask about are chosen before anything is written: those whose words resemble what people asked about in other
documents.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import dspy

from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.core.protocols import Filter
from synth_dspy.domains.documents.chunks import sentences
from synth_dspy.domains.documents.labelled import answer_type
from synth_dspy.domains.documents.quoting import quoted
from synth_dspy.domains.documents.spans import Patterns, excerpt, find_spans, with_context
from synth_dspy.domains.documents.statements import StatementQuestions
from synth_dspy.domains.documents.units import (
    ChunkUnit,
    DocumentUnit,
    SilentUnit,
    SpanUnit,
    StatementUnit,
    TransferredUnit,
)
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.synthesis.demonstrations import Choice, Demonstrations, Shot
from synth_dspy.synthesis.pipeline import candidate_id, evenly
from synth_dspy.synthesis.planning import best_of_each_group, interleave, questions_of_others, topic
from synth_dspy.synthesis.samples import draw, first_passing, kept_by

SHOT_WORDS = 30
CONSIDERED = 3
"""Items considered per requested candidate."""
CELLS = 3
"""Most cells of tables that are asked for in one document."""
SAMPLING = {"temperature": 0.3, "top_p": 0.9}


class WriteQuestion(dspy.Signature):
    """Write the question that the answer answers. Use the words of the text.
    Do not put the answer into the question."""

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
    """Writes candidates: `plan` chooses the units, `forward` writes about one of them.

    Args:
        patterns: the answers that can be asked for, by kind.
        seeds: labelled examples of the training groups with `group`, `question`, `answer`, `references`, `spans`,
            `passages`, `category`, `answer_type`.
        embed: texts to unit vectors.
        abstention: the answer to an unanswerable question.
        free: whether the teacher writes questions about chunks instead of spans.
        unanswerable: share of unanswerable candidates.
        like_seeds: whether the documents are of the seeds' kind, so that seeds' questions may be asked of them too.
        search: from a question and a group to the passages that a program would get; None: a capable teacher only
            writes freely.
        transferred_share: share of a capable teacher's answerable candidates that ask a seed's question.
        learned: labelled examples that are trained on anyway; their questions are not asked of their documents again.
        statement_share: share of the answerable candidates that are made from statements, where there are so many.
        written: whether the teacher writes questions too.
        count: demonstrations for each call.
        samples: most questions written about a span, until one passes the checks.
        checks: filters without model calls.
        seed: for random choices.
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
        like_seeds: bool = True,
        search: Callable[[str, str], Sequence[str]] | None = None,
        transferred_share: float = 0.75,
        learned: Sequence[dspy.Example] = (),
        statement_share: float = 0.0,
        written: bool = True,
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
        self.like_seeds = like_seeds
        self.search = search
        self.transferred_share = transferred_share if search is not None else 0.0
        self.statement_share = statement_share
        self.written = written
        self.seed = seed
        self.count = count
        self.samples = samples
        self.checks = list(checks)
        shown = [(example, shot) for example in seeds if (shot := as_shot(example, patterns))]
        self.shots = [shot for _, shot in shown]
        self.quotable = {example.id for example, _ in shown if not _yes_or_no(example)}
        silent = [example for example in seeds if not example.references]
        self.already_asked = {(example.group, topic(example)) for example in [*learned, *silent]}
        self.seeds = list(seeds)
        self.answered = {(example.group, topic(example)) for example in seeds if example.references}
        self.demonstrations = Demonstrations(self.shots, embed, count, seed=seed)
        self.write = dspy.Predict(WriteQuestion)
        self.write_freely = dspy.Predict(WriteFreely)
        self.answer = dspy.Predict(ExtractAnswer)
        self.adapter = PlainAdapter()
        self.decoding = {"max_tokens": 32, "temperature": 0.0, "stop": ["\n"]}

    # What to write about

    def plan(self, items: Sequence[Item], limit: int | None) -> list[DocumentUnit]:
        """Units to write about, at most `limit`, evenly from the groups."""
        statements = self._statement_units(items) if self.statement_share else []
        silent = self._silent_units(items, self.seeds if self.like_seeds else _as_seeds(statements))
        transferred = self._transferred_units(items) if self.free and self.transferred_share else []
        if limit is None:
            return [*statements, *self._written_units(items), *transferred, *silent]
        few = min(len(silent), round(limit * self.unanswerable))
        chosen = best_of_each_group(statements, round((limit - few) * self.statement_share))
        room = limit - few - len(chosen)
        many = min(len(transferred), round(room * self.transferred_share))
        # Long documents have thousands of spans, and each is embedded.
        about_text = self._written_units(evenly(items, CONSIDERED * limit)) if room > many else []
        shares: Sequence[tuple[Sequence[DocumentUnit], int]] = (
            (about_text, room - many),
            (transferred, many),
            (silent, few),
        )
        return interleave([*chosen, *(unit for units, number in shares for unit in best_of_each_group(units, number))])

    def _statement_units(self, items: Sequence[Item]) -> list[StatementUnit]:
        """Questions made by rule, of each document first one of every rule, then the second ones, and so on."""
        texts: defaultdict[str, list[Item]] = defaultdict(list)
        for item in items:
            texts[item.group].append(item)
        units = []
        for group, own in texts.items():
            questions = StatementQuestions("\n".join(item.text for item in own), self.patterns)
            made = [(item, statement) for item in own for statement in questions.of(item.text)]
            asked = Counter(statement.question for _, statement in made)
            turn: Counter[str] = Counter()
            for item, statement in made:
                if asked[statement.question] > 1:  # two sentences answer it
                    continue
                if statement.rule == "table" and turn["table"] == CELLS:
                    continue
                choice = Choice("", -float(turn[statement.rule]), ())
                turn[statement.rule] += 1
                name = f"{item.id}/{statement.rule}-{statement.question}"
                units.append(StatementUnit(name, group, item.text, statement.kind, choice, statement))
        return units

    def _written_units(self, items: Sequence[Item]) -> Sequence[DocumentUnit]:
        if not self.written:
            return []
        return self._units_about_chunks(items) if self.free else self._units_about_spans(items)

    def _units_about_spans(self, items: Sequence[Item]) -> list[SpanUnit]:
        units = []
        for item in items:
            matches = find_spans(item.text, self.patterns)
            for kind in dict.fromkeys(span.kind for span in matches):
                spans = [span for span in matches if span.kind == kind]
                texts = [excerpt(item.text, span.start, span.end) for span in spans]
                choices = self.demonstrations.choose(kind, texts, item.group)
                for span, text, choice in zip(spans, texts, choices, strict=True):
                    alone = sum(other.text in text for other in spans) == 1
                    # The words about a span are near it; nearer if the excerpt has another span of its kind.
                    near = with_context(item.text, span.start, span.end, *((8, 6) if alone else (6, 1)))
                    name = f"{item.id}/{span.start}-{span.end}"
                    units.append(SpanUnit(name, item.group, item.text, kind, choice, span, text, near))
        return units

    def _units_about_chunks(self, items: Sequence[Item]) -> list[ChunkUnit]:
        units = []
        for item in items:
            shots = [shot for shot in self.shots if shot.group != item.group]
            shots = random.Random(f"{self.seed} {item.group}").sample(shots, min(self.count, len(shots)))
            choice = Choice("", float(len(item.text.split()) > 15), tuple(shots))
            units.append(ChunkUnit(f"{item.id}/{ChunkUnit.mode}", item.group, item.text, "", choice))
        return units

    def _silent_units(self, items: Sequence[Item], seeds: Sequence[dspy.Example]) -> list[SilentUnit]:
        """For each group: seeds' questions about other groups, in categories without an answer here."""
        units = []
        for item, example in questions_of_others(
            items, seeds, lambda e, group: (group, topic(e)) not in self.answered, self.seed
        ):
            choice = Choice(example.category, 0.0, ())
            units.append(SilentUnit(f"{item.id}/{example.id}", item.group, item.text, "none", choice, example))
        return units

    def _transferred_units(self, items: Sequence[Item]) -> list[TransferredUnit]:
        """For each group: seeds' questions about other groups, which are answered there."""
        units = []
        for item, example in questions_of_others(items, self.seeds, self._worth_asking, self.seed):
            shots = self.demonstrations.of_others(example.category, item.group)
            choice = Choice(example.category, 0.0, shots)
            kind = str(example.get("answer_type") or "")
            name = f"{item.id}/{TransferredUnit.mode}-{example.id}"
            units.append(TransferredUnit(name, item.group, item.text, kind, choice, example))
        return units

    def _worth_asking(self, example: dspy.Example, group: str) -> bool:
        """Whether a seed's answer is quoted from its document, and its question not asked of this one already."""
        return example.id in self.quotable and (group, topic(example)) not in self.already_asked

    # Writing

    def forward(self, unit: DocumentUnit | Item) -> list[Candidate[DocumentUnit]]:
        """The candidates of one unit from `plan`, or of all units of an item."""
        if isinstance(unit, Item):
            return [candidate for own in self.plan([unit], None) for candidate in self.forward(own)]
        with dspy.context(adapter=self.adapter):
            match unit:
                case StatementUnit(statement=made):
                    return [_candidate(unit, made.question, made.answer, [made.answer], made.sentence)]
                case SpanUnit():
                    return [self._about_span(unit)]
                case TransferredUnit():
                    return [self._about_seed(unit)]
                case SilentUnit():
                    return [_candidate(unit, unit.like.question, self.abstention, [], "")]
            return [self._about_chunk(unit)]

    def _about_span(self, unit: SpanUnit) -> Candidate[DocumentUnit]:
        answer = unit.span.text

        def candidate(question: str) -> Candidate[DocumentUnit]:
            return _candidate(unit, question, answer, [answer], unit.excerpt, unit.near)

        questions = (self.ask(unit.excerpt, answer, unit.choice, **draw(i, SAMPLING)) for i in range(self.samples))
        return candidate(first_passing(questions, lambda question: kept_by(self.checks, candidate(question))) or "")

    def _about_chunk(self, unit: DocumentUnit) -> Candidate[DocumentUnit]:
        shots = unit.choice.shots
        demos = [dspy.Example(text=shot.excerpt, question=shot.question) for shot in shots]
        question = _one_line(self.write_freely(text=unit.text, demos=demos, config=self.decoding).question)
        answer = self.answer_from(unit.text, question, shots)
        return _candidate(unit, question, answer, [answer], unit.text)

    def _about_seed(self, unit: TransferredUnit) -> Candidate[DocumentUnit]:
        assert self.search is not None
        question = unit.like.question
        passages = list(self.search(question, unit.group))
        text = "\n".join(passages)
        answer = self._of_kind(unit.kind, self.answer_from(text, question, unit.choice.shots))
        passage = next((flat for flat in map(_one_space, passages) if answer and answer in flat), "")
        at = passage.find(answer)
        answer = answer if passage else ""  # words from two passages, or from none, are not a quotation
        source = excerpt(passage, at, at + len(answer)) if passage else ""
        near = with_context(passage, at, at + len(answer)) if passage else ""
        return _candidate(replace(unit, text=text), question, answer, [answer], source, near)

    def _of_kind(self, kind: str, answer: str) -> str:
        """The part of an answer that is of the requested kind, if its pattern needs no context; "" without one."""
        pattern = self.patterns.get(kind)
        if pattern is None or "answer" in pattern.groupindex:
            return answer
        return next((span.text for span in find_spans(answer, {kind: pattern})), "")

    def ask(self, text: str, answer: str, choice: Choice, **decoding: Any) -> str:
        """The teacher's question to an answer in a text."""
        demos = [dspy.Example(text=s.excerpt, answer=s.answer, question=s.question) for s in choice.shots]
        with dspy.context(adapter=self.adapter):
            prediction = self.write(text=text, answer=answer, demos=demos, config={**self.decoding, **decoding})
        return _one_line(prediction.question)

    def answer_from(self, text: str, question: str, shots: Sequence[Shot] = ()) -> str:
        """The teacher's answer to a question from a text: its quotation of the text, else its whole reply."""
        demos = [dspy.Example(text=s.excerpt, question=s.question, answer=s.answer) for s in shots]
        with dspy.context(adapter=self.adapter):
            prediction = self.answer(text=text, question=question, demos=demos, config=self.decoding)
        reply = _one_line(prediction.answer)
        return quoted(reply, text, question) or reply


def _as_seeds(statements: Sequence[StatementUnit]) -> list[dspy.Example]:
    """Statements' questions as seeds that may be asked of other documents: those that do not name a place in theirs."""
    return [
        dspy.Example(id=unit.id, group=unit.group, question=unit.statement.question, category="")
        for unit in statements
        if unit.statement.rule not in ("heading", "label", "table")
    ]


def as_shot(example: dspy.Example, patterns: Patterns) -> Shot | None:
    """A labelled seed as a demonstration, or None if it has no answer or its passages do not contain it."""
    passages = str(example.get("passages") or "")
    if not example.references:
        return None
    # The answer, an accepted form of it, or else the span that contains it ("Spanish law" for "Spain").
    wordings = [example.answer, *example.references, *(example.get("spans") or [])]
    places = ((passages.casefold().find(str(wording).casefold()), str(wording)) for wording in wordings)
    at, answer = next(((at, wording) for at, wording in places if at >= 0), (-1, ""))
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


def _yes_or_no(example: dspy.Example) -> bool:
    """Whether a seed's answer is yes or no, and so not quoted from its document."""
    return "yes_no" in (example.get("answer_type"), answer_type(example.references))


def _one_space(text: str) -> str:
    return " ".join(text.split())


def _candidate(
    unit: DocumentUnit, question: str, answer: str, references: list[str], source: str, near: str | None = None
) -> Candidate[DocumentUnit]:
    fields = {
        "question": question,
        "answer": answer,
        "references": references,
        "spans": [source] if references else [],
        "document": unit.group,
        "answer_type": unit.kind,
        "source": source,
        "near": source if near is None else near,
        "passages": unit.text,
    }
    return Candidate(candidate_id(unit, 0), unit, fields, unit.choice.category)


def _one_line(text: str) -> str:
    return " ".join(str(text).split("\n")[0].split())
