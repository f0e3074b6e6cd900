"""Round-trip filters: a good question leads back to its source.

By retrieval (a search for it returns its source), by answering (another call, given the text and the question, gives
the same answer), and in reverse (given the answer and the text, the teacher asks the same question again).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.knowledge import Candidate, Verdict, rejected
from synth_dspy.core.protocols import Embed
from synth_dspy.core.text import one_line
from synth_dspy.synthesis.cues import Cues
from synth_dspy.synthesis.text import content, content_f1


class Search(Protocol):
    """The part of a retriever's interface that is used here."""

    def search(self, query: str, document: str | None = None, words: int = ...) -> Sequence[Any]: ...


class RetrievalRoundTrip:
    """A search for the question in its document must return the words that it was written from.

    Args:
        retriever: searches the documents.
        words: word budget of the search; a smaller one is stricter.
    """

    name = "retrieval round trip"

    def __init__(self, retriever: Search, words: int) -> None:
        self.retriever = retriever
        self.words = words

    def __call__(self, candidate: Candidate) -> Verdict:
        if not candidate.fields.get("references"):
            return Verdict(True, 1.0, "")
        question, document = str(candidate.fields["question"]), candidate.fields.get("document")
        passages = self.retriever.search(question, document, self.words)
        wanted = one_line(str((candidate.fields.get("spans") or [candidate.fields["answer"]])[0]))
        ranked = sorted(passages, key=lambda passage: -passage.score)
        for rank, passage in enumerate(ranked, 1):
            if wanted in one_line(passage.text):
                return Verdict(True, 1 / rank, "")
        return rejected("source not found")


@dataclass(frozen=True, slots=True)
class Place:
    """A possible answer with its context: the words next to it, and its sentence."""

    kind: str
    text: str
    near: str
    sentence: str


class SpanRoundTrip:
    """The question must lead to its own answer rather than to others of the same kind in the document.

    A place is scored by the question's cosine similarity to the words next to it and to its sentence, and by the share
    of the question's words in the sentence. On labelled questions about the sample contracts (dates, periods, amounts)
    the best place is the right answer three times in four, more often than a model of 135M parameters is right.

    Args:
        places: from a document's id to its places.
        embed: from texts to unit vectors.
        margin: how much lower the score of the best other answer must be.
    """

    name = "answer retrieval"

    def __init__(self, places: Callable[[str], Sequence[Place]], embed: Embed, margin: float = 0.0) -> None:
        self.places = places
        self.embed = embed
        self.margin = margin
        self._cache: dict[tuple[str, str], tuple[Sequence[Place], NDArray[np.float32], NDArray[np.float32]]] = {}
        self._lock = threading.Lock()

    def __call__(self, candidate: Candidate) -> Verdict:
        kind = str(candidate.fields.get("answer_type", ""))
        if not candidate.fields.get("references"):
            return Verdict(True, 1.0, "")
        question, answer = str(candidate.fields["question"]), str(candidate.fields["answer"])
        ranked = self.rank(candidate.unit.group, question, kind)
        own = [(score, place) for score, place in ranked if content_f1(place.text, answer) == 1.0]
        if not own:
            return Verdict(True, 0.5, "")  # no pattern for this kind of answer: nothing to compare with
        other = next(((score, place) for score, place in ranked if content_f1(place.text, answer) < 1.0), None)
        if other is None or own[0][0] - other[0] >= self.margin:
            return Verdict(True, min(1.0, max(0.0, own[0][0])), "")
        return Verdict(False, max(0.0, own[0][0]), f"leads to another answer: {other[1].text}")

    def rank(self, document: str, question: str, kind: str) -> list[tuple[float, Place]]:
        """The places of a kind in a document with their scores, best first."""
        places, near, sentence = self._vectors(document, kind)
        if not places:
            return []
        vector = self.embed([question])[0]
        question_words = set(content(question))
        shared = [len(question_words & set(content(place.sentence))) / max(1, len(question_words)) for place in places]
        scores = 0.35 * (near @ vector) + 0.25 * (sentence @ vector) + 0.4 * np.asarray(shared)
        order = sorted(range(len(places)), key=lambda i: (-float(scores[i]), i))
        return [(float(scores[i]), places[i]) for i in order]

    def _vectors(self, document: str, kind: str) -> tuple[Sequence[Place], NDArray[np.float32], NDArray[np.float32]]:
        with self._lock:
            if (document, kind) not in self._cache:
                places = [place for place in self.places(document) if place.kind == kind]
                empty = np.zeros((0, 1), np.float32)
                near = self.embed([place.near for place in places]) if places else empty
                sentence = self.embed([place.sentence for place in places]) if places else empty
                self._cache[document, kind] = (places, near, sentence)
            return self._cache[document, kind]


class OneAnswer:
    """No other sentence of the document may speak of all that the question speaks of: it would have two answers.

    Args:
        sentences: from a document's id to its sentences.
    """

    name = "one answer"

    def __init__(self, sentences: Callable[[str], Sequence[str]]) -> None:
        self.sentences = sentences
        self._cache: dict[str, list[tuple[str, frozenset[str]]]] = {}

    def __call__(self, candidate: Candidate) -> Verdict:
        source = one_line(str(candidate.fields.get("source") or ""))
        made = getattr(candidate.unit, "statement", None)
        if made and made.rule in ("heading", "label", "default", "list"):  # the layout says where the answer stands
            return Verdict(True, 1.0, "")
        if not candidate.fields.get("references") or not source:
            return Verdict(True, 1.0, "")
        group = candidate.unit.group
        if group not in self._cache:
            self._cache[group] = [(one_line(s), frozenset(content(s))) for s in self.sentences(group)]
        asked = frozenset(content(str(candidate.fields["question"])))
        # What a thing is, is said where it is the subject.
        what = re.fullmatch(r"What (?:is|are) (?:an? |the )?(.+)\?", str(candidate.fields["question"]))
        for sentence, words in self._cache[group]:
            if sentence.startswith("#"):  # a heading states nothing
                continue
            if what and not re.search(rf"\b{re.escape(what[1])}\W+(?:is|are|means?)\b", sentence, re.I):
                continue
            if asked <= words and sentence not in source and source not in sentence:
                return rejected(f"also answered elsewhere: {sentence}")
        return Verdict(True, 1.0, "")


class Relevance:
    """The question must be similar to its excerpt.

    Args:
        embed: texts to unit vectors.
        threshold: least cosine similarity of question and excerpt (the candidate's field `source`).
    """

    name = "relevant"

    def __init__(self, embed: Embed, threshold: float) -> None:
        self.embed = embed
        self.threshold = threshold

    def __call__(self, candidate: Candidate) -> Verdict:
        if not candidate.fields.get("references"):
            return Verdict(True, 1.0, "")
        source = str(candidate.fields.get("source") or candidate.unit.text)
        question, text = self.embed([str(candidate.fields["question"]), source])
        score = float(question @ text)
        return Verdict(
            score >= self.threshold, max(0.0, score), "" if score >= self.threshold else "far from its source"
        )


class AnswerRoundTrip:
    """Another call answers the question, preferably from the passages of a search for it; both answers must agree.

    Args:
        answer: from a candidate to another answer to its question.
        threshold: least token F1 of the two answers.
    """

    name = "answer round trip"

    def __init__(self, answer: Callable[[Candidate[Any]], str], threshold: float = 0.5) -> None:
        self.answer = answer
        self.threshold = threshold

    def __call__(self, candidate: Candidate) -> Verdict:
        if not candidate.fields.get("references"):
            return Verdict(True, 1.0, "")
        answer = self.answer(candidate)
        score = max(content_f1(answer, str(reference)) for reference in candidate.fields["references"])
        keep = score >= self.threshold
        return Verdict(keep, score, "" if keep else f"answers differ: {answer}")


class ReverseQuery:
    """When the teacher writes a question for the same answer again, it must ask for the same thing.

    Args:
        ask: from a candidate to the teacher's other question.
        embed: texts to unit vectors.
        threshold: least cosine similarity of the two questions.
    """

    name = "reverse query"

    def __init__(self, ask: Callable[[Candidate[Any]], str], embed: Embed, threshold: float) -> None:
        self.ask = ask
        self.embed = embed
        self.threshold = threshold

    def __call__(self, candidate: Candidate) -> Verdict:
        if not candidate.fields.get("references"):
            return Verdict(True, 1.0, "")
        again = self.ask(candidate)
        ours, theirs = self.embed([str(candidate.fields["question"]), again])
        score = float(ours @ theirs)
        keep = score >= self.threshold
        return Verdict(keep, max(0.0, score), "" if keep else f"asks something else: {again}")


class Silent:
    """For questions meant to be unanswerable: no sentence of the document on the same topic may be similar to them.

    Args:
        embed: from texts to unit vectors.
        sentences: from a document's id to its sentences.
        threshold: highest cosine similarity allowed between the question and a sentence.
        cues: only sentences on one of the question's topics count, since a long document has something similar to any
            question.
        shared: least share of the question's content words that the document has, so that somebody might ask it.
    """

    name = "silent document"

    def __init__(
        self,
        embed: Embed,
        sentences: Callable[[str], Sequence[str]],
        threshold: float,
        cues: Cues | None = None,
        shared: float = 0.0,
    ) -> None:
        self.embed = embed
        self.sentences = sentences
        self.threshold = threshold
        self.shared = shared
        self.cues = cues or Cues({})

    def __call__(self, candidate: Candidate) -> Verdict:
        if candidate.fields.get("references"):
            return Verdict(True, 1.0, "")
        texts = self.sentences(candidate.unit.group)
        if not texts:
            return rejected("document not known")
        question = str(candidate.fields["question"])
        asked = set(content(question))
        if len(asked & set(content("\n".join(texts)))) < self.shared * len(asked):
            return rejected("about something else")
        if topics := self.cues.topics_in(question).values():
            texts = [text for text in texts if any(topic.search(text) for topic in topics)]
            if not texts:
                return Verdict(True, 1.0, "")
        near = self.embed(texts) @ self.embed([question])[0]
        best = int(np.argmax(near))
        keep = float(near[best]) <= self.threshold
        return Verdict(
            keep, min(1.0, max(0.0, 1 - float(near[best]))), "" if keep else f"may be answered: {texts[best]}"
        )
