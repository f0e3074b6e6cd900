"""Filters that call no model: is it a question, does it ask for such an answer, is all of it from the text?"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from synth_dspy.core.knowledge import KEPT, Candidate, Verdict, rejected
from synth_dspy.synthesis.cues import Cues
from synth_dspy.synthesis.text import content, ngrams, numbers, tokens

_ASKS = re.compile(
    r"^(?:(?:[A-Za-z'’-]+,? ){0,3})?(?:who|whom|whose|what|which|when|where|why|how|is|are|was|were|do|does|did|can|"
    r"may|must|shall|should|will|has|have)\b",
    re.I,
)


@dataclass(frozen=True)
class WellFormedQuestion:
    """A question that is one question, of sensible length, and does not give its answer away."""

    name: str = "well-formed"
    shortest: int = 4
    longest: int = 28

    def __call__(self, candidate: Candidate) -> Verdict:
        question = str(candidate.fields["question"]).strip()
        words = question.split()
        if not question.endswith("?") or question.count("?") > 1 or "\n" in question:
            return rejected("not one question")
        if not _ASKS.match(question):
            return rejected("does not begin as a question does")
        if not self.shortest <= len(words) <= self.longest:
            return rejected("too short or too long")
        lowered = [word.lower() for word in words]
        if len(ngrams(lowered, 3)) < len(lowered) - 2 or _repeats(lowered):
            return rejected("repeats itself")
        answer = content(str(candidate.fields["answer"])) if candidate.fields.get("references") else ()
        asked = set(content(question))
        if answer and (set(answer) <= asked or numbers(str(candidate.fields["answer"])) & numbers(question)):
            return rejected("contains the answer")
        return KEPT


@dataclass(frozen=True)
class AsksForKind:
    """A question whose words ask for the kind of answer that was given.

    Attributes:
        patterns: by kind (the candidate's field `answer_type`), what a question for it must match. Kinds without a
            pattern are not judged.
    """

    patterns: Mapping[str, re.Pattern[str]]
    name: str = "asks for its answer"

    def __call__(self, candidate: Candidate) -> Verdict:
        kind = str(candidate.fields.get("answer_type", ""))
        pattern = self.patterns.get(kind)
        if pattern is None or pattern.search(str(candidate.fields["question"])):
            return KEPT
        return rejected(f"does not ask for its answer: a {kind}")


class SaidThere:
    """What the question speaks of must be spoken of by its source.

    A small teacher asks when a contract ends, about the date on which it begins.

    Args:
        cues: by which it is told; the text is the candidate's field `near`, the words next to its answer (without one,
            its `source`).
    """

    name = "said there"

    def __init__(self, cues: Cues) -> None:
        self.cues = cues

    def __call__(self, candidate: Candidate) -> Verdict:
        source = str(candidate.fields.get("near") or candidate.fields.get("source") or "")
        if source and candidate.fields.get("references"):
            for topic, said in self.cues.asked(str(candidate.fields["question"])).items():
                if not said.search(source):
                    return rejected(f"source does not speak of it: {topic}")
        return KEPT


class Grounded:
    """An answer that stands in the unit's text, and a question whose words stand in the document or are said of any.

    A number must stand in that text itself. Unanswerable questions are not judged: their words come from elsewhere.

    Args:
        common: words that questions about any document may use; `common_words` collects them from labelled seeds.
        document: a group to the whole text of its document; without it, the unit's text is all there is.
        strangers: largest share of the content words of the question that the source may lack.
    """

    name = "grounded"

    def __init__(
        self, common: frozenset[str], document: Callable[[str], str] | None = None, strangers: float = 0.2
    ) -> None:
        self.common = common
        self.document = document
        self.strangers = strangers
        self._known: dict[str, frozenset[str]] = {}

    def __call__(self, candidate: Candidate) -> Verdict:
        if not candidate.fields.get("references"):
            return KEPT
        text, answer = candidate.unit.text, " ".join(str(candidate.fields["answer"]).split())
        if not answer:
            return rejected("no answer")
        if answer not in " ".join(text.split()):
            return rejected("answer not in the text")
        question = str(candidate.fields["question"])
        if invented := numbers(question) - frozenset(tokens(text)):
            return rejected(f"invented number: {', '.join(sorted(invented))}")
        asked = content(question)
        known = self._words(candidate)
        strange = [word for word in asked if word not in known and word not in self.common]
        share = len(strange) / len(asked) if asked else 1.0
        if share > self.strangers:
            return Verdict(False, 1 - share, f"invented words: {', '.join(strange)}")
        return Verdict(True, 1 - share, "")

    def _words(self, candidate: Candidate) -> frozenset[str]:
        group = candidate.unit.group
        if self.document is None:
            return frozenset(tokens(candidate.unit.text))
        if group not in self._known:
            self._known[group] = frozenset(tokens(self.document(group)))
        return self._known[group]


def common_words(questions: Iterable[tuple[str, str]], groups: int = 2) -> frozenset[str]:
    """Content words that the questions about at least `groups` groups use; questions are (group, question)."""
    where: defaultdict[str, set[str]] = defaultdict(set)
    for group, question in questions:
        for word in content(question):
            where[word].add(group)
    return frozenset(word for word, held in where.items() if len(held) >= groups and not word.isdigit())


def _repeats(words: list[str]) -> bool:
    """A word twice in a row, or one content word more than twice."""
    doubled = any(a == b for a, b in pairwise(words))
    return doubled or max(Counter(word for word in words if len(word) > 4).values(), default=0) > 2
