"""Synthesis for documents: the synthesizer of questions, and the filters they must pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from synth_dspy.core.knowledge import Candidate
from synth_dspy.core.protocols import Filter
from synth_dspy.core.resources import Resources
from synth_dspy.domains.documents.roundtrip import (
    AnswerRoundTrip,
    OneAnswer,
    Place,
    Relevance,
    RetrievalRoundTrip,
    ReverseQuery,
    Silent,
    SpanRoundTrip,
)
from synth_dspy.domains.documents.spans import excerpt, find_spans, with_context
from synth_dspy.domains.documents.statement_grammar import plain
from synth_dspy.domains.documents.synthesizer import SAMPLING, Synthesizer, sentences_of
from synth_dspy.domains.documents.units import DocumentUnit, StatementUnit, TransferredUnit
from synth_dspy.synthesis.cues import Cues
from synth_dspy.synthesis.decontaminate import Decontaminated
from synth_dspy.synthesis.dedup import NearDuplicate
from synth_dspy.synthesis.filters import AsksForKind, Grounded, TopicInSource, WellFormedQuestion, common_words
from synth_dspy.synthesis.text import content

_OF_RULES = frozenset(
    content(
        "the period and the rate, the name of, what the table gives under, what you should do, what happens, "
        "the default, what is meant"
    )
)
"""Words that the rules for statements put into questions."""
STATED = 0.5
"""Share of the questions to learn from that are made by rule."""


@dataclass(frozen=True)
class DocumentSynthesis:
    """The synthesis of questions about one kind of document.

    Attributes:
        patterns: by kind, the spans that can be asked for.
        asks: by kind, what a question for such a span must match.
        cues: by topic, words of a question, and words of which one must be near its answer.
        abstention: the answer to an unanswerable question, unless the task sets one.
        transferred_share: share of a capable teacher's answerable questions that are labelled seeds' questions about
            other documents: any contract may be asked the same, but hardly any page of a help centre.
    """

    patterns: Mapping[str, re.Pattern[str]]
    asks: Mapping[str, re.Pattern[str]]
    cues: Cues = field(default_factory=lambda: Cues({}))
    abstention: str = ""
    transferred_share: float = 0.0

    def synthesizer(self, resources: Resources, free: bool | None = None) -> Synthesizer:
        """The module that writes questions.

        Args:
            resources: the seeds and the embedder are used; the caller sets the teacher on the module.
            free: let the teacher choose what to ask about a chunk; by default if it is another model than the student,
                and therefore presumed capable.
        """
        abstention = resources.abstain or self.abstention
        like_seeds = self._are_like_seeds(resources)
        return Synthesizer(
            self.patterns,
            resources.seeds,
            resources.embedder.embed,
            abstention=abstention,
            free=_is_capable(resources) if free is None else free,
            # Silence is learned from questions about other pages; few would ask them, so nothing is scored on them.
            **({} if abstention and (like_seeds or not resources.scored) else {"unanswerable": 0.0}),
            like_seeds=like_seeds,
            count=3,
            samples=2,
            search=_passages(resources),
            transferred_share=self.transferred_share,
            statement_share=1.0 if resources.scored else STATED,
            written=not resources.scored or not _is_small(resources),
            learned=resources.learned,
            checks=self._checks(resources),
            seed=resources.seed,
        )

    def filters(self, resources: Resources, free: bool | None = None) -> list[Filter]:
        """The filters for a candidate, cheapest first; `free` as for the synthesizer."""
        embed = resources.embedder.embed
        free = _is_capable(resources) if free is None else free
        teacher = self.synthesizer(resources, free)
        teacher.set_lm(resources.teacher)

        def answer(candidate: Candidate[DocumentUnit]) -> str:
            question = str(candidate.fields["question"])
            if isinstance(candidate.unit, StatementUnit):  # right as it is
                return str(candidate.fields["answer"])
            assert teacher.search is not None
            # An answer from a search is checked against one passage, and an answer from one passage against a search.
            searched = isinstance(candidate.unit, TransferredUnit)
            passages = [candidate.fields["source"]] if searched else teacher.search(question, candidate.unit.group)
            return teacher.answer_from("\n".join(passages), question, candidate.unit.choice.shots)

        def ask(candidate: Candidate[DocumentUnit]) -> str:
            fields = candidate.fields
            if isinstance(candidate.unit, StatementUnit):
                return str(fields["question"])  # made by rule: the teacher need not ask it again
            choice = candidate.unit.choice
            return teacher.ask(str(fields["source"]), str(fields["answer"]), choice, rollout_id=99, **SAMPLING)

        filters = self._checks(resources)
        if resources.retriever is not None:
            document = resources.retriever.text
            filters += [
                RetrievalRoundTrip(resources.retriever, resources.words),
                SpanRoundTrip(lambda group: self._places(document(group)), embed),
                OneAnswer(lambda group: sentences_of(document(group))),
                Silent(
                    embed, lambda group: sentences_of(document(group)), 0.4, self.cues, 0.6 if resources.scored else 0.0
                ),
            ]
        filters += [NearDuplicate(embed, resources.learned), Decontaminated(resources.held_out, embed)]
        if free and resources.retriever is not None:
            return [*filters, AnswerRoundTrip(answer)]
        return [*filters, ReverseQuery(ask, embed, 0.5)]

    def _are_like_seeds(self, resources: Resources) -> bool:
        """Whether the documents are of the seeds' kind: contracts are, and pages are if they are of one corpus."""
        document = resources.retriever.text if resources.retriever is not None else None
        if self.transferred_share or document is None:
            return True
        # A short span may be in a document of the same name.
        there = [span in document(seed.group) for seed in resources.seeds for span in seed.get("spans") or ()]
        return 2 * sum(there) > len(there)

    def _checks(self, resources: Resources) -> list[Filter]:
        common = common_words((example.group, example.question) for example in resources.seeds) | _OF_RULES
        document = resources.retriever.text if resources.retriever is not None else None
        relevant = Relevance(resources.embedder.embed, 0.3)
        return [
            WellFormedQuestion(),
            AsksForKind(self.asks),
            TopicInSource(self.cues),
            Grounded(common, document, read=plain),
            relevant,
        ]

    def _places(self, text: str) -> list[Place]:
        return [
            Place(span.kind, span.text, with_context(text, span.start, span.end), excerpt(text, span.start, span.end))
            for span in find_spans(text, self.patterns)
        ]


def _is_capable(resources: Resources) -> bool:
    return bool(resources.teacher.model != resources.student.model)


def _is_small(resources: Resources) -> bool:
    """Whether the teacher is the embedded student, which writes too few questions that are worth scoring with."""
    return not _is_capable(resources) and str(resources.teacher.model).startswith("embedded/")


def _passages(resources: Resources) -> Callable[[str, str], list[str]] | None:
    """A function from a question and a document to the passages that the program would get."""
    retriever = resources.retriever
    if retriever is None:
        return None
    return lambda question, group: [passage.text for passage in retriever.search(question, group, resources.words)]
