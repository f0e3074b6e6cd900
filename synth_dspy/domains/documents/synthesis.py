"""Writing questions about documents: what can be asked for, how the teacher is asked, and what is kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from synth_dspy.core.knowledge import Candidate
from synth_dspy.core.protocols import Filter
from synth_dspy.core.resources import Resources
from synth_dspy.domains.documents.roundtrip import (
    AnswerRoundTrip,
    Place,
    Relevance,
    RetrievalRoundTrip,
    ReverseQuery,
    Silent,
    SpanRoundTrip,
)
from synth_dspy.domains.documents.spans import beside, excerpt, find_spans
from synth_dspy.domains.documents.synthesizer import SAMPLING, Synthesizer, sentences_of
from synth_dspy.domains.documents.units import AskedUnit, DocumentUnit
from synth_dspy.synthesis.cues import Cues
from synth_dspy.synthesis.decontaminate import Decontaminated
from synth_dspy.synthesis.dedup import NearDuplicate
from synth_dspy.synthesis.filters import AsksForKind, Grounded, SaidThere, WellFormedQuestion, common_words


@dataclass(frozen=True)
class DocumentSynthesis:
    """How questions about one kind of documents are written.

    Attributes:
        patterns: what can be asked for, by kind: spans of the text that match.
        asks: by kind, what a question for it must match.
        cues: what a question speaks of, and the words of which one must stand by its answer.
        abstention: the answer where a document is silent, if the task does not say.
        asked: share of a capable teacher's answerable questions that labelled seeds ask of other documents: the same
            may be asked of any contract, but hardly of any page of a help centre.
    """

    patterns: Mapping[str, re.Pattern[str]]
    asks: Mapping[str, re.Pattern[str]]
    cues: Cues = field(default_factory=lambda: Cues({}))
    abstention: str = ""
    asked: float = 0.0

    def synthesizer(self, resources: Resources, free: bool | None = None) -> Synthesizer:
        """The module that writes questions.

        Args:
            resources: the seeds and the embedder are used; the teacher is set on the module by whoever runs it.
            free: let the teacher choose what to ask about a chunk. By default where it is another model than the
                student: a teacher that was named on purpose is taken for a capable one.
        """
        abstention = resources.abstain or self.abstention
        return Synthesizer(
            self.patterns,
            resources.seeds,
            resources.embedder.embed,
            abstention=abstention,
            free=_is_capable(resources) if free is None else free,
            **({} if abstention and self._may_be_silent(resources) else {"unanswerable": 0.0}),
            count=3,
            samples=2,
            search=_passages(resources),
            asked=self.asked,
            learned=resources.learned,
            checks=self._checks(resources),
            seed=resources.seed,
        )

    def filters(self, resources: Resources, free: bool | None = None) -> list[Filter]:
        """What a candidate must pass, cheapest first; `free` as for the synthesizer."""
        embed = resources.embedder.embed
        free = _is_capable(resources) if free is None else free
        teacher = self.synthesizer(resources, free)
        teacher.set_lm(resources.teacher)

        def answer(candidate: Candidate[DocumentUnit]) -> str:
            question = str(candidate.fields["question"])
            assert teacher.search is not None
            # What was answered from a search is answered from one passage again, and what was from one, by a search.
            searched = isinstance(candidate.unit, AskedUnit)
            passages = [candidate.fields["source"]] if searched else teacher.search(question, candidate.unit.group)
            return teacher.answer_from("\n".join(passages), question, candidate.unit.choice.shots)

        def ask(candidate: Candidate[DocumentUnit]) -> str:
            fields = candidate.fields
            choice = candidate.unit.choice
            return teacher.ask(str(fields["source"]), str(fields["answer"]), choice, rollout_id=99, **SAMPLING)

        filters = self._checks(resources)
        if resources.retriever is not None:
            document = resources.retriever.text
            filters += [
                RetrievalRoundTrip(resources.retriever, resources.words),
                SpanRoundTrip(lambda group: self._places(document(group)), embed),
                Silent(embed, lambda group: sentences_of(document(group)), 0.4, self.cues),
            ]
        filters += [NearDuplicate(embed, resources.learned), Decontaminated(resources.held_out, embed)]
        if free and resources.retriever is not None:
            return [*filters, AnswerRoundTrip(answer)]
        return [*filters, ReverseQuery(ask, embed, 0.5)]

    def _may_be_silent(self, resources: Resources) -> bool:
        """Whether what seeds ask of other documents may be asked of these, which do not answer it.

        The seeds may be of another corpus, whose questions are as good only where all documents are of one kind.
        """
        if self.asked or resources.retriever is None:
            return True
        return any(resources.retriever.text(group) for group in {example.group for example in resources.seeds})

    def _checks(self, resources: Resources) -> list[Filter]:
        common = common_words((example.group, example.question) for example in resources.seeds)
        document = resources.retriever.text if resources.retriever is not None else None
        relevant = Relevance(resources.embedder.embed, 0.3)
        return [
            WellFormedQuestion(),
            AsksForKind(self.asks),
            SaidThere(self.cues),
            Grounded(common, document),
            relevant,
        ]

    def _places(self, text: str) -> list[Place]:
        return [
            Place(span.kind, span.text, beside(text, span.start, span.end), excerpt(text, span.start, span.end))
            for span in find_spans(text, self.patterns)
        ]


def _is_capable(resources: Resources) -> bool:
    return bool(resources.teacher.model != resources.student.model)


def _passages(resources: Resources) -> Callable[[str, str], list[str]] | None:
    """A question and a document to the passages that the program would be given."""
    retriever = resources.retriever
    if retriever is None:
        return None
    return lambda question, group: [passage.text for passage in retriever.search(question, group, resources.words)]
