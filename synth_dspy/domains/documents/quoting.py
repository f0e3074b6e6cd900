"""Quotations: the part of a teacher's reply that is in the text it was to answer from.

When asked for a few words copied from a text, a small teacher answers in a sentence ("The contract is governed by the
laws of Maryland."). The part that is not in the question is mostly a quotation; that is the answer.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from synth_dspy.synthesis.text import content

_WORD = re.compile(r"\S+")
_EDGE = " \t\n,;:.!?\"'“”‘’"


def quoted(reply: str, text: str, question: str = "", *, share: float = 0.6) -> str:
    """The run of words shared by a reply and a text that has the most content words, as written in the text.

    Args:
        reply: the teacher's reply.
        text: the text it should quote.
        question: the question; a reply may repeat its words.
        share: least share of the reply's own content words (those not in the question) in the run.

    Returns:
        The run, without punctuation at its edges; "" if none has enough words, or the reply has none of its own.
    """
    reply_words, text_words = _words(reply), list(_WORD.finditer(text))
    own = set(content(reply)) - set(content(question))
    if not own or not text_words:
        return ""
    blocks = SequenceMatcher(
        None, reply_words, [_plain(word.group()) for word in text_words], autojunk=False
    ).get_matching_blocks()
    runs = [
        text[text_words[block.b].start() : text_words[block.b + block.size - 1].end()] for block in blocks if block.size
    ]
    count, best_run = max(
        ((len(own & set(content(run))), run) for run in runs), default=(0, ""), key=lambda pair: pair[0]
    )
    return " ".join(_balanced(best_run.strip(_EDGE)).split()) if count >= share * len(own) else ""


def _words(text: str) -> list[str]:
    return [_plain(word) for word in text.split()]


def _plain(word: str) -> str:
    return word.strip(_EDGE + "()[]").casefold() or word


def _balanced(run: str) -> str:
    """A run without brackets at its edges that have no partner."""
    for left, right in ("()", "[]"):
        if run.startswith(left) and right not in run:
            run = run[1:]
        if run.endswith(right) and left not in run:
            run = run[:-1]
    return run
