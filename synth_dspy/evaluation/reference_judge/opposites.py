"""Whether an answer that repeats a reference nearly word for word turns it into its opposite by one small word.

"Neither party" for "either party", "with" for "without", "need not" for "shall": such words are few, and mostly
stopwords, so that overlap hardly notices them. What counts is not which word stands in place of which, but whether the
number of negations in what was changed is odd on one side and even on the other: "no party may" says what "neither
party may" does.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise

from synth_dspy.core.text import Text, words
from synth_dspy.evaluation.reference_judge.cues import HARMLESS_AFTER_NEGATION, is_negation

_ALIKE, _SHORT_ALIKE = 0.6, 0.5
"""Share of the reference's words, in their order, from which an answer counts as repeating it."""
_SHORT, _MOST = 5, 160
"""Words of a reference: of a short one only words in place of others are compared; a longer one takes too long."""
_AROUND = 6
"""Words around the mention that are compared too: "neither" before "party" is no content word."""
_INSERTED, _SPARE = 5, 2
"""A longer insertion says something of its own; "none of the" may stand for "all", two words more."""
_FORBIDS = words(
    "prohibited forbidden barred precluded disallowed banned unable refrain refrains abstain abstains refuse refuses "
    "fail fails lacks forbids prohibits"
)
_OPEN = words("only unless except save solely but otherwise nor if")
"""Words with which a change can say the same by another number of negations: "only with" and "not without"."""
_PREFIXES = ("non", "un", "in", "im", "ir", "dis")


def polarity(reference: Text, answer: Text, span: tuple[int, int] | None) -> float:
    """1.0 where an answer repeats a reference with the opposite polarity, 0.0 with the same, -1.0 where it does not.

    Args:
        reference: parsed.
        answer: parsed.
        span: first and last token of the mention in the answer; None where the reference is not mentioned.
    """
    if span is None or len(reference.tokens) > _MOST:
        return -1.0
    theirs = _low(reference, 0, len(reference.tokens))
    ours = _low(answer, max(0, span[0] - _AROUND), min(len(answer.tokens), span[1] + 1 + _AROUND))
    theirs, ours = _split(theirs, ours), _split(ours, theirs)
    matcher = difflib.SequenceMatcher(None, theirs, ours, autojunk=False)
    short = len(theirs) < _SHORT
    alike = sum(block.size for block in matcher.get_matching_blocks())
    if alike < (_SHORT_ALIKE if short else _ALIKE) * len(theirs):
        return -1.0
    lost: list[str] = []
    gained: list[str] = []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        at_start, at_end = j1 == 0, j2 == len(ours)
        if tag == "equal" or (tag == "insert" and (short or at_start or at_end or j2 - j1 > _INSERTED)):
            continue
        if at_start:  # what stands before a mention is compared as far as it stands in place of something
            j1 = max(j1, j2 - (i2 - i1) - _SPARE)
        elif at_end:
            j2 = min(j2, j1 + (i2 - i1) + _SPARE)
        lost += _negations(theirs, i1, i2, short)
        gained += _negations(ours, j1, j2, short)
    if "?" in (*lost, *gained):
        return 0.0
    return float(len(lost) % 2 != len(gained) % 2)


def _negations(low: Sequence[str], start: int, end: int, short: bool) -> list[str]:
    """The negations in a stretch; "?" where it holds a word by which they cannot be counted.

    In a short reference a verb such as "fail" is as likely a name.
    """
    counted = []
    for i in range(start, end):
        word, following = low[i], low[i + 1] if i + 1 < len(low) else ""
        if word in _OPEN:
            counted.append("?")
        elif (is_negation(word) and following not in HARMLESS_AFTER_NEGATION) or (word in _FORBIDS and not short):
            counted.append(word)
    return counted


def _low(text: Text, start: int, end: int) -> list[str]:
    pieces = (text.text[token.start : token.end].lower() for token in text.tokens[start:end] if token.kind != "p")
    return [piece for piece in pieces if piece]


def _split(low: Sequence[str], other: Sequence[str]) -> list[str]:
    """The words, with a negating prefix on its own where the other side has the word without it: "ir", "revocable"."""
    vocabulary, split = set(other), []
    glued = {"in"} & vocabulary  # "inCorinth" is a slip, not a negation
    for word in low:
        stems = (p for p in _PREFIXES if word.startswith(p) and word[len(p) :] in vocabulary and p not in glued)
        prefix = next((prefix for prefix in stems if len(word) - len(prefix) > 3 and word not in vocabulary), None)
        split += ["non", word[len(prefix) :]] if prefix else [word]
    return split


def denies_question(question: Text, answer: Text, span: tuple[int, int] | None) -> float:
    """1.0 where an answer repeats what is asked as denied: "It may not be sold to X" to "To whom may it be sold?".

    What counts is a verb denied before the mention, in its own clause, where the question denies nothing.

    Args:
        question: parsed.
        answer: parsed.
        span: as for `polarity`.
    """
    if span is None:
        return 0.0
    asked = {question.tokens[i].norm for i in question.words}
    low = [answer.text[token.start : token.end].lower() for token in answer.tokens[: span[0]]]
    first = max((i + 1 for i, word in enumerate(low) if word in _CLAUSE_ENDS), default=0)
    clause = low[first:]
    repeated = asked & {token.norm for token in answer.tokens[first : span[0]]}
    if len(repeated) < _REPEATED * len(asked) or len(repeated) < 2:
        return 0.0
    denied = sum(word in _DENIED or (word in _VERBS and after == "not") for word, after in pairwise(clause))
    wanted = any(is_negation(token) for token in _low(question, 0, len(question.tokens)))
    return float(denied == 1 and not wanted)


_REPEATED = 0.5
"""Share of the question's words from which an answer counts as repeating it."""
_CLAUSE_ENDS = frozenset(".!?\n,;:\"“”'‘") | {"but"}
_VERBS = words("may shall must will should can could would does do did is are was were has have")
_DENIED = words("cannot can't won't mustn't shan't shouldn't doesn't don't didn't isn't aren't wasn't weren't")
