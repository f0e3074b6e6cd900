"""Answers in the text's own words: what of a teacher's reply stands in the text it was to answer from.

Asked for a few words copied from a text, a small teacher answers in a sentence ("The contract is governed by the laws
of Maryland."). What is new in it, beside the question's own words, is mostly a quotation; that is the answer.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from synth_dspy.synthesis.text import content

_WORD = re.compile(r"\S+")
_EDGE = " \t\n,;:.!?\"'“”‘’"


def quoted(reply: str, text: str, question: str = "", *, share: float = 0.6) -> str:
    """The run of a reply's words that stands in a text and says most, as it stands there, without its edges' marks.

    Args:
        reply: what was said.
        text: what it was to be taken from.
        question: what was asked; a reply may repeat its words.
        share: how many of the reply's own content words (those that the question lacks) the run must hold.

    Returns:
        The run; "" where there is none that holds enough, or where the reply has no words of its own.
    """
    said, there = _words(reply), list(_WORD.finditer(text))
    own = set(content(reply)) - set(content(question))
    if not own or not there:
        return ""
    blocks = SequenceMatcher(None, said, [_plain(word.group()) for word in there], autojunk=False).get_matching_blocks()
    runs = [text[there[block.b].start() : there[block.b + block.size - 1].end()] for block in blocks if block.size]
    held, run = max(((len(own & set(content(run))), run) for run in runs), default=(0, ""), key=lambda pair: pair[0])
    return " ".join(_balanced(run.strip(_EDGE)).split()) if held >= share * len(own) else ""


def _words(text: str) -> list[str]:
    return [_plain(word) for word in text.split()]


def _plain(word: str) -> str:
    return word.strip(_EDGE + "()[]").casefold() or word


def _balanced(run: str) -> str:
    """Without a bracket at an edge whose partner the run lacks."""
    for opening, closing in ("()", "[]"):
        if run.startswith(opening) and closing not in run:
            run = run[1:]
        if run.endswith(closing) and opening not in run:
            run = run[:-1]
    return run
