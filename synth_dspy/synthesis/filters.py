"""Filters without model calls: well-formed questions, questions that fit their answers, grounded answers."""

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
    """Keeps single questions of reasonable length that do not contain their answer."""

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
        topics_in = set(content(question))
        if answer and (set(answer) <= topics_in or numbers(str(candidate.fields["answer"])) & numbers(question)):
            return rejected("contains the answer")
        return KEPT


@dataclass(frozen=True)
class AsksForKind:
    """Keeps questions whose words ask for the type of the given answer.

    Attributes:
        patterns: patterns of questions by type (the candidate's field `answer_type`). Types without a pattern are not
            judged.
    """

    patterns: Mapping[str, re.Pattern[str]]
    name: str = "asks for its answer"

    def __call__(self, candidate: Candidate) -> Verdict:
        kind = str(candidate.fields.get("answer_type", ""))
        pattern = self.patterns.get(kind)
        if pattern is None or pattern.search(str(candidate.fields["question"])):
            return KEPT
        return rejected(f"does not ask for its answer: a {kind}")


class TopicInSource:
    """Keeps questions whose topics occur in their source.

    A small teacher may ask when a contract ends although the answer is the date on which it starts.

    Args:
        cues: detects topics; the text is the candidate's field `near`, the words next to its answer, or else `source`.
    """

    name = "said there"

    def __init__(self, cues: Cues) -> None:
        self.cues = cues

    def __call__(self, candidate: Candidate) -> Verdict:
        source = str(candidate.fields.get("near") or candidate.fields.get("source") or "")
        if source and candidate.fields.get("references"):
            for topic, pattern in self.cues.topics_in(str(candidate.fields["question"])).items():
                if not pattern.search(source):
                    return rejected(f"source does not speak of it: {topic}")
        return KEPT


class Grounded:
    """Keeps answers that occur in the unit's text, with questions whose words occur in the document or are common.

    Numbers in the question must occur in the unit's text. Unanswerable questions are not judged.

    Args:
        common: words that any question may use; `common_words` collects them from labelled seeds.
        document: maps a group to the whole text of its document; by default the unit's text is used.
        max_unsupported: maximum share of the question's content words that occur in neither.
        read: a text as it is read, without markup: its words may answer too.
    """

    name = "grounded"

    def __init__(
        self,
        common: frozenset[str],
        document: Callable[[str], str] | None = None,
        max_unsupported: float = 0.2,
        read: Callable[[str], str] = str,
    ) -> None:
        self.common = common
        self.document = document
        self.max_unsupported = max_unsupported
        self.read = read
        self._document_words: dict[str, frozenset[str]] = {}

    def __call__(self, candidate: Candidate) -> Verdict:
        if not candidate.fields.get("references"):
            return KEPT
        text, answer = candidate.unit.text, " ".join(str(candidate.fields["answer"]).split())
        if not answer:
            return rejected("no answer")
        if not any(_holds(whole, answer) for whole in (text, self.read(text))):
            return rejected("answer not in the text")
        question = str(candidate.fields["question"])
        if extra_numbers := numbers(question) - frozenset(tokens(text)):
            return rejected(f"invented number: {', '.join(sorted(extra_numbers))}")
        topics_in = content(question)
        known_words = self._words(candidate)
        unsupported = [word for word in topics_in if word not in known_words and word not in self.common]
        share = len(unsupported) / len(topics_in) if topics_in else 1.0
        if share > self.max_unsupported:
            return Verdict(False, 1 - share, f"invented words: {', '.join(unsupported)}")
        return Verdict(True, 1 - share, "")

    def _words(self, candidate: Candidate) -> frozenset[str]:
        group = candidate.unit.group
        if self.document is None:
            return frozenset(tokens(candidate.unit.text))
        if group not in self._document_words:
            self._document_words[group] = frozenset(tokens(self.document(group)))
        return self._document_words[group]


def _holds(text: str, answer: str) -> bool:
    """Whether a text has an answer word for word, whatever punctuation stands between the words."""
    return answer in " ".join(text.split()) or f" {' '.join(tokens(answer))} " in f" {' '.join(tokens(text))} "


def common_words(questions: Iterable[tuple[str, str]], groups: int = 2) -> frozenset[str]:
    """Content words used in questions about at least `groups` groups; questions are (group, question)."""
    groups_by_word: defaultdict[str, set[str]] = defaultdict(set)
    for group, question in questions:
        for word in content(question):
            groups_by_word[word].add(group)
    return frozenset(
        word for word, word_groups in groups_by_word.items() if len(word_groups) >= groups and not word.isdigit()
    )


def _repeats(words: list[str]) -> bool:
    """Whether a word occurs twice in a row, or a long word more than twice."""
    doubled = any(a == b for a, b in pairwise(words))
    return doubled or max(Counter(word for word in words if len(word) > 4).values(), default=0) > 2
