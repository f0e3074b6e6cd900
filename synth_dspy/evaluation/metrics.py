"""What "good" means where no judge is needed: exact match, token F1, retrieval, abstention.

Every metric has DSPy's face, `metric(example, prediction, trace=None) -> float` in [0, 1]. An example has `question`,
`references` (accepted answers; none where the right answer is to abstain) and `spans` (gold spans, verbatim); a
prediction has `answer` and `passages` (in the order of their rank).
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from synth_dspy.core.text import as_text, one_line, overlap_f1
from synth_dspy.evaluation.scores import scores

_SUBJECT = r"(?:contract|agreement|lease|license|document|text|passages?|context|excerpts?|clauses?|sections?|it|this)"
_NOT = r"(?:does\s+not|doesn['’]t|do\s+not|don['’]t|did\s+not|didn['’]t)"
_STATES = (
    r"(?:say|state|specify|mention|contain|provide|include|address|define|disclose|indicate|"
    r"tell|set\s+out|answer|identify|discuss|appear\s+to)"
)
_SILENT = re.compile(
    "|".join(
        (
            r"^(?:none|n/?a|no answer|not applicable|silent|unanswerable|unknown)\W*$",
            rf"\b{_SUBJECT}\b[^.;]{{0,60}}\b(?:is|are|was|remains?)\s+silent\b",
            rf"\b{_SUBJECT}\b[^.;]{{0,60}}\b{_NOT}\s+{_STATES}\b",
            r"\b(?:is|are|was|were)\s+(?:not|n['’]t|nowhere)\s+(?:\w+\s+)?"
            r"(?:specified|stated|mentioned|addressed|defined|disclosed|indicated|found|set out)\b",
            r"^(?:it\s+is\s+)?not\s+(?:\w+\s+)?"
            r"(?:specified|stated|mentioned|provided|given|addressed|defined|disclosed|indicated|found|named|available)\b",
            r"\b(?:no|without(?:\s+a(?:ny)?)?)\s+such\s+(?:clause|provision|term|restriction|right|obligation|information)\b",
            r"\b(?:there\s+is|contains?|includes?|has|have)\s+no\s+(?:\w+\s+){0,4}"
            r"(?:clause|provision|mention|information|indication|reference|term|answer|section)\b",
            r"^no\s+(?:\w+\s+){0,2}(?:clause|provision|mention|information|indication|answer)\b",
            r"\bsays\s+nothing\b|\bno\s+mention\s+of\b",
            r"\b(?:cannot|can\s?not|can['’]t|could\s+not|couldn['’]t|unable\s+to)\s+(?:be\s+)?(?:find|found|determined?|answer(?:ed)?|tell|locate)\b",
            r"^(?:sorry[,.]?\s+)?i\s+(?:do\s+not|don['’]t)\s+know\W*(?:the\s+answer\W*)?$",
        )
    ),
    re.IGNORECASE,
)
_LONGEST_ABSTENTION = 40
"""Words. A longer text that says somewhere what is "not specified" is a clause, not an abstention."""

_CONTENT_AFTER = re.compile(r"\b(?:but|however|although|except)\b", re.IGNORECASE)


def abstains(answer: str) -> bool:
    """Whether an answer says that its document is silent. The one place where such phrases are known."""
    text = " ".join((answer or "").split())
    if not text or len(text.split()) > _LONGEST_ABSTENTION:
        return False
    return bool(_SILENT.search(text)) and not _CONTENT_AFTER.search(text)


def is_abstention(answer: str, phrase: str = "") -> bool:
    """Whether an answer is a task's own phrase of abstention, or says in other words that the document is silent.

    A task without such a phrase never abstains.
    """
    if not phrase:
        return False
    return normalize_answer(answer) == normalize_answer(phrase) or abstains(answer)


def _abstained(example: Any, prediction: Any) -> bool:
    """Whether a prediction abstains, by its program's `abstained`, else by its text.

    An example that should be abstained from has the task's abstention phrase as its answer.
    """
    flag = prediction.get("abstained")
    if flag is not None:
        return bool(flag)
    phrase = str(example.get("answer") or "") if not _references(example) else ""
    return is_abstention(_answer(prediction), phrase) or abstains(_answer(prediction))


@scores("abstention")
def abstention(example: Any, prediction: Any, trace: Any = None) -> float:
    """1.0 where the prediction abstains exactly when it should: no reference, no answer."""
    return float(_abstained(example, prediction) == (not _references(example)))


def normalize_answer(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces (Rajpurkar et al., 2016).

    But 3.50 and 3,50 do not become 350, 10:30 not 1030, 5-10 not 510, and -5 not 5: what belongs to a number stays.
    1,000.00 is 1,000.
    """
    text = _DECIMAL_COMMA.sub(".", text.lower().replace("\N{MINUS SIGN}", "-"))
    text = _PUNCTUATION.sub(lambda found: found["number"] or (" " if found["between"] else ""), text)
    return " ".join(_NO_CENTS.sub("", _ARTICLES.sub(" ", text)).split())


_NO_CENTS = re.compile(r"(?<=\d)\.00(?![\d.])")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d{1,2}(?![\d,]))")
_PUNCTUATION = re.compile(
    r"(?P<number>(?<=\d)[.:](?=\d)|(?<![\w)%])-(?=[$€£]?[.\d]*\d))|(?P<between>(?<=\d)[-–—/](?=\d))"
    rf"|[{re.escape(string.punctuation)}“”‘’–—]"
)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@scores("answer", "exact match")
def exact_match(example: Any, prediction: Any, trace: Any = None) -> float:
    """1.0 where the answer equals one of the references after normalisation; abstention where there are none."""
    references = _references(example)
    if not references:
        return abstention(example, prediction)
    answer = normalize_answer(_answer(prediction))
    return float(any(normalize_answer(reference) == answer for reference in references))


@scores("answer", "token F1")
def token_f1(example: Any, prediction: Any, trace: Any = None) -> float:
    """F1 of the tokens shared with the best reference (SQuAD's); abstention where there are none.

    An abstention answers nothing, and the words that it shares with a reference earn it nothing, unless the reference
    itself says that the document is silent.
    """
    references = _references(example)
    if not references:
        return abstention(example, prediction)
    if _abstained(example, prediction) and not any(map(abstains, references)):
        return 0.0
    answer = Counter(normalize_answer(_answer(prediction)).split())
    return max(overlap_f1(answer, Counter(normalize_answer(reference).split())) for reference in references)


@scores("retrieval", "retrieval recall")
def retrieval_recall(example: Any, prediction: Any, trace: Any = None) -> float:
    """Share of the gold spans that stand whole in one of the passages, white space aside; NaN without gold spans."""
    spans = [_squeeze(span) for span in example.get("spans") or []]
    passages = [_squeeze(passage) for passage in prediction.get("passages") or []]
    return sum(any(span in passage for passage in passages) for span in spans) / len(spans) if spans else math.nan


@scores("retrieval", "MRR")
def retrieval_mrr(example: Any, prediction: Any, trace: Any = None) -> float:
    """1 / rank of the first passage that holds a gold span, 0.0 where none does; NaN without gold spans."""
    spans = [_squeeze(span) for span in example.get("spans") or []]
    if not spans:
        return math.nan
    for rank, passage in enumerate(map(_squeeze, prediction.get("passages") or []), start=1):
        if any(span in passage for span in spans):
            return 1.0 / rank
    return 0.0


def reward_f1(row: Mapping[str, Any], text: str) -> float:
    """A reward for GRPO: token F1 of a reply against the references of its training row."""
    return token_f1(dict(row), {"answer": text})


def _answer(prediction: Any) -> str:
    return as_text(prediction.get("answer") or "")


def _references(example: Any) -> Sequence[str]:
    return [reference for reference in example.get("references") or [] if reference.strip()]


def _squeeze(text: str) -> str:
    return one_line(text).lower()
