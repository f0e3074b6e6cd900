"""Filters for a generated question and its response.

The teacher alone does not decide whether a question is in scope: the labelled questions and the house's topics nearest
to it in meaning must agree, and for a question in scope they must also agree on its topic.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import dspy
import numpy as np

from synth_dspy.core.knowledge import KEPT, Candidate, Verdict, rejected
from synth_dspy.core.protocols import Embed, Filter
from synth_dspy.core.resources import Resources
from synth_dspy.domains.assistant.chain import ATTEMPT, BORDERLINE, IN
from synth_dspy.domains.assistant.house import House
from synth_dspy.domains.assistant.metrics import declines
from synth_dspy.domains.assistant.rules import violations
from synth_dspy.synthesis.decontaminate import Decontaminated
from synth_dspy.synthesis.dedup import NearDuplicate
from synth_dspy.synthesis.text import tokens

_FIRST_PERSON = re.compile(r"\b(?:i|i'[mdv]e?|i'll|my|me|mine|we|our|us|someone|somebody)\b", re.IGNORECASE)
_ORDERS = re.compile(
    r"(?:^|[.:!,]\s+)(?:please |just |now )?(?:help|how|what|where|when|why|who|which|can|could|is|are|do|does|tell|"
    r"give|write|say|repeat|act|pretend|ignore|show|explain|cancel|change|let|from now|new rule|answer|type|print|"
    r"you are|fix|book|read|talk|recommend|promise|admit|there)\b",
    re.IGNORECASE,
)
_SPOKEN_BY_US = re.compile(
    r"\b(?:assistant|customer|about|message|topic|subtopic):|\bhow (?:can|may) (?:i|we) (?:help|assist) you\b|"
    r"\bthank you for (?:contacting|your)|\bwe(?:'re| are) (?:here|happy|pleased)\b|\bour (?:team|customer service)\b|"
    r"\[[^\]]*\]|\bdear\b|\bsincerely\b|\bi(?:'m| am) (?:happy|glad|here) to\b",
    re.IGNORECASE,
)
_ATTEMPTS = re.compile(
    r"\b(?:ignore|pretend|act|repeat|say|promise|rules?|you are (?:now|my|a|an|the)|you're (?:now|my|a|an)|"
    r"from now on|role|imagine|hypothetical\w*|developer|admin|manager|authori\w+|confirm|just (?:tell|type|give|say)|"
    r"word for word|prompt|instructions|forget|approve|admit|print|read out|"
    r"talk like|speak like|deal|as (?:a|an|my|the))\b",
    re.IGNORECASE,
)


class CustomerMessage:
    """The question is a customer's message: of sensible length, not in the house's words, no loops, not an example."""

    name = "well-formed"

    def __init__(self, examples: Sequence[str] = (), shortest: int = 4, longest: int = 32) -> None:
        self.examples = {tokens(text) for text in examples}
        self.shortest, self.longest = shortest, longest

    def __call__(self, candidate: Candidate) -> Verdict:
        question = str(candidate.fields["question"]).strip()
        words = question.split()
        if not self.shortest <= len(words) <= self.longest:
            return rejected("too short or too long")
        if _SPOKEN_BY_US.search(question) or declines(question):
            return rejected("not the customer's words")
        asks = "?" in question or _FIRST_PERSON.search(question) or _ORDERS.search(question)
        if not asks or question[-1] in ",;:-(":
            return rejected("asks for nothing")
        lowered = [word.lower() for word in words]
        threes = Counter(zip(lowered, lowered[1:], lowered[2:], strict=False))
        if max(threes.values(), default=0) > 1 or question.count("?") > 2:
            return rejected("repeats itself")
        if tokens(question) in self.examples:
            return rejected("copied from the examples")
        if candidate.fields.get("conversation") and question in str(candidate.fields["conversation"]):
            return rejected("copied from the conversation")
        if candidate.category == ATTEMPT and not _ATTEMPTS.search(question):
            return rejected("no attempt at the rules")
        return KEPT


class Belongs:
    """The nearest labelled questions and topics agree with the requested kind.

    Args:
        house: its topics' subtopics are points too, with the topic's scope.
        seeds: labelled questions of the training topics.
        embed: texts to unit vectors.
        neighbours: number of neighbours that vote, weighted by cosine.
        near: least cosine of a question in scope and the house's answer about its subtopic.
        strict: the nearest neighbour of a borderline question or an attempt must be a declined one; for teachers that
            are not reliable at the border.
    """

    name = "belongs"

    def __init__(
        self,
        house: House,
        seeds: Sequence[dspy.Example],
        embed: Embed,
        *,
        neighbours: int = 5,
        near: float = 0.4,
        strict: bool = False,
    ) -> None:
        self.embed = embed
        self.neighbours, self.near, self.strict = neighbours, near, strict
        parts = [(topic, part) for topic in house.topics for part in topic.subtopics]
        texts = [f"{topic.name}: {part.name}" for topic, part in parts] + [seed.question for seed in seeds]
        self.groups = [topic.id for topic, _ in parts] + [str(seed.group) for seed in seeds]
        self.scopes = np.array([topic.in_scope for topic, _ in parts] + [bool(seed.references) for seed in seeds])
        self.vectors = embed(texts)
        self.statements = {f"{topic.id}/{part.id}": f"{part.name}. {part.answer}" for topic, part in parts}

    def __call__(self, candidate: Candidate) -> Verdict:
        question = str(candidate.fields["question"])
        vector = self.embed([question])[0]
        cosine = self.vectors @ vector
        order = np.argsort(-cosine)[: self.neighbours]
        weights = np.maximum(cosine[order], 0) ** 2
        inside = float((weights * self.scopes[order]).sum() / max(weights.sum(), 1e-9))
        if candidate.category in (BORDERLINE, ATTEMPT):
            # They are meant to sound in scope, but must not repeat a question that was answered.
            nearest = int(np.argmax(cosine))
            wrong = bool(self.scopes[nearest]) and (self.strict or cosine[nearest] > 0.75)
            return Verdict(not wrong, 1 - inside, "in scope after all" if wrong else "")
        if candidate.category != IN:
            return Verdict(inside < 0.5, 1 - inside, "" if inside < 0.5 else "in scope after all")
        if inside <= 0.5:
            return Verdict(False, inside, "out of scope after all")
        if candidate.unit.group not in {self.groups[i] for i in order[:3]}:
            return Verdict(False, inside, f"about another topic: {self.groups[order[0]]}")
        statement = self.statements.get(f"{candidate.unit.group}/{candidate.fields['subtopic']}", candidate.unit.text)
        fit = float(self.embed([statement])[0] @ vector)
        if fit < self.near:
            return Verdict(False, max(fit, 0.0), "the house's words do not answer it")
        return Verdict(True, min(1.0, inside), "")


class DecidedAlike:
    """The response agrees with the question's kind; where the teacher contradicts itself, the candidate is rejected."""

    name = "decided alike"

    def __call__(self, candidate: Candidate) -> Verdict:
        should_answer = candidate.category == IN
        if bool(candidate.fields["decided"]) != should_answer:
            return rejected("decided otherwise than it was meant")
        if declines(str(candidate.fields["answer"])) == should_answer:
            return rejected("declines what it should answer" if should_answer else "answers what it should decline")
        return KEPT


class KeepsRules:
    """The response breaks no rule or tone of the house; the reason names the rule."""

    name = "rules kept"

    def __init__(self, house: House) -> None:
        self.rules = (*house.rules, *house.tone)

    def __call__(self, candidate: Candidate) -> Verdict:
        answer = str(candidate.fields["answer"])
        if not answer.strip():
            return rejected("no answer")
        broken = violations(answer, self.rules)
        return rejected(f"breaks {broken[0]}: {answer}") if broken else KEPT


def checks(house: House, resources: Resources) -> list[Filter]:
    """The filters of a question alone, which call no language model."""
    seeds, strict = resources.seeds, resources.teacher.model == resources.student.model
    return [
        CustomerMessage([seed.question for seed in seeds]),
        Belongs(house, seeds, resources.embedder.embed, strict=strict),
    ]


def filters_of(house: House, resources: Resources) -> list[Filter]:
    """All filters, cheapest first."""
    embed = resources.embedder.embed
    return [
        *checks(house, resources),
        DecidedAlike(),
        KeepsRules(house),
        NearDuplicate(embed, resources.learned),
        Decontaminated(resources.held_out, embed),
    ]
