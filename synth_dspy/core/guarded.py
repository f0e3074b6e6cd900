"""Scores that a policy cannot raise by talking to the judge, by writing more, or by writing nothing.

Whatever a reward can be raised by without a better answer is what reinforcement learning finds first (Gao et al.,
"Scaling Laws for Reward Model Overoptimization", arXiv:2210.10760; Singhal et al., "A Long Way to Go: Investigating
Length Correlations in RLHF", arXiv:2310.03716). So the score of an answer is

- 0 for an empty answer, and for one that is nothing but words to the judge;
- at most the score of the same answer without the sentences that speak to a judge;
- multiplied by allowed / written words where it is longer than allowed: twice the longest reference, or where there is
  none, twice the median reference of the run's other questions (GRPO and RLOO);
- calibrated: the judge's threshold, from which an answer is right, is mapped to one half.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

LEAST_WORDS = 12
"""Answers up to this length are never too long: a short reference may be given in a whole sentence."""
LONGER = 2.0
"""How many times longer than expected an answer may be."""
_TO_JUDGE = re.compile(
    r"\b(?:verdict|graders?|grading|scoring|rubric|ground truth|gold answer|full (?:marks?|points|score|credit)|"
    r"disregard|ignore (?:all|any|the|previous|earlier|prior)|previous instructions|system prompt|"
    r"score\s*[:=]|(?:final|overall) (?:score|grade|rating|judge?ment)|rating\s*[:=]|"
    r"(?:score|grade|rate|mark|judge|evaluate)s? (?:this|it|me|the answer|my answer)|"
    r"(?:this|the|my) (?:answer|response|reply) (?:is|was|has been) (?:\w+ )?"
    r"(?:correct|right|verified|perfect|accurate|true|valid))\b|"
    r"</?\w+>|\[/?(?:inst|system|verdict|score)\b|\bis_correct\b|\b(?:score|correct)[\"']?\s*[:=]\s*(?:true|1\b|10\b)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def without_forgery(answer: str, question: str = "") -> str:
    """The answer without sentences that speak to a judge, unless the question uses such words itself."""
    theirs = question.lower()

    def forged(sentence: str) -> bool:
        return any(match.group().lower() not in theirs for match in _TO_JUDGE.finditer(sentence))

    return " ".join(sentence for sentence in _SENTENCE.split(answer) if sentence.strip() and not forged(sentence))


def calibrated(score: float, threshold: float) -> float:
    """A judge's score, with its threshold mapped to one half and 0 and 1 kept; 0.0 for NaN."""
    if math.isnan(score):
        return 0.0
    score = min(max(score, 0.0), 1.0)
    if not 0 < threshold < 1:
        return score
    return 0.5 * score / threshold if score < threshold else 0.5 + 0.5 * (score - threshold) / (1 - threshold)


def guarded(
    score: Callable[[str], float], answer: str, *, question: str = "", expected_words: int = 0, threshold: float = 0.5
) -> float:
    """The reward of an answer, in [0, 1].

    Args:
        score: the judge's score of an answer's text.
        answer: the answer.
        question: its words are not taken for forged ones.
        expected_words: length of the longest reference, or of a usual answer; 0: unknown, so that length is free.
        threshold: the score from which the judge calls an answer right.
    """
    if not answer.strip():
        return 0.0
    clean = without_forgery(answer, question)
    if not clean.strip():
        return 0.0
    value = calibrated(score(answer), threshold)
    if clean != " ".join(part for part in _SENTENCE.split(answer) if part.strip()):
        value = min(value, calibrated(score(clean), threshold))
    written = len(answer.split())
    allowed = max(LEAST_WORDS, LONGER * expected_words)
    return value * min(1.0, allowed / written) if expected_words else value
