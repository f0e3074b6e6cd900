"""Steps around a search, as DSPy modules whose predictors every optimizer sees: what to search for, and what to keep.

A question is worded as people ask, a document as its author writes. `RewriteQuery` has the model write what the answer
may look like, which is searched for beside the question (Wang et al., "Query2doc", arXiv:2303.07678). `SelectPassages`
has it choose, of more passages than the program is given, those that help (Sun et al., "Is ChatGPT Good at Search?",
arXiv:2304.09542). What a reply does not say in a form that can be read leaves the search as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import dspy
from dspy.utils.exceptions import AdapterParseError

from synth_dspy.core.knowledge import Passage
from synth_dspy.core.text import as_text, one_line

CAPABLE_BILLIONS: Final = 3.0
"""Parameters, in billions, from which on a model is taken to be capable of these steps; see docs/retrieval.md."""
_PIECE_WORDS: Final = 60
_QUERY_WORDS: Final = 60  # a longer reply is not a query, but an answer, or a text without end
_SIZE: Final = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)\s?([bm])(?![a-z0-9])", re.IGNORECASE)


class SearchQuery(dspy.Signature):
    """Write one sentence as it may stand in the document that answers the question, in the document's own kind of
    language. It is searched for, so it need not be true. Write the sentence and nothing else."""

    question: str = dspy.InputField()
    query: str = dspy.OutputField()


class UsefulPassages(dspy.Signature):
    """Which of the numbered passages are needed to answer the question? Write their numbers with commas between them,
    the most useful first, and nothing else. Write 0 if none of them is."""

    passages: str = dspy.InputField()
    question: str = dspy.InputField()
    numbers: str = dspy.OutputField()


class RewriteQuery(dspy.Module):
    """Question -> `query`, a text to search for beside it; "" where the model writes nothing that can be one."""

    def __init__(self) -> None:
        super().__init__()
        self.write = dspy.Predict(SearchQuery)

    def forward(self, question: str) -> dspy.Prediction:
        """`query`, of one line."""
        try:
            query = one_line(as_text(self.write(question=question).query))
        except AdapterParseError:
            query = ""
        return dspy.Prediction(query=query if len(query.split()) <= _QUERY_WORDS else "")


class SelectPassages(dspy.Module):
    """Passages and a question -> `passages`, those that the model needs, in their order; None where it does not say."""

    def __init__(self) -> None:
        super().__init__()
        self.choose = dspy.Predict(UsefulPassages)

    def forward(self, passages: Sequence[Passage], question: str, words: int) -> dspy.Prediction:
        """`passages` of at most so many words: the most useful first as far as they fit, then put in their order.

        Args:
            passages: more of them than fit. Long ones are offered in pieces.
            question: what they are to answer.
            words: most words that are kept.
        """
        pieces = [piece for passage in passages for piece in _pieces(passage)]
        numbered = "\n".join(f"[{number}] {one_line(piece.text)}" for number, piece in enumerate(pieces, 1))
        try:
            reply = as_text(self.choose(passages=numbered, question=question).numbers)
        except AdapterParseError:
            reply = ""
        chosen: list[int] = []
        for number in dict.fromkeys(map(int, re.findall(r"\d{1,4}", reply))):
            if 1 <= number <= len(pieces):
                size = len(pieces[number - 1].text.split())
                if size <= words:
                    chosen.append(number - 1)
                    words -= size
        return dspy.Prediction(passages=[pieces[row] for row in sorted(chosen)] or None)


def _pieces(passage: Passage) -> list[Passage]:
    """A passage cut between lines, into pieces of about a chunk: neighbours that a search put together."""
    pieces: list[list[str]] = []
    size = _PIECE_WORDS + 1
    for line in passage.text.split("\n"):
        size += len(line.split())
        if size > _PIECE_WORDS:
            pieces.append([])
            size = len(line.split())
        pieces[-1].append(line)
    return [replace(passage, text="\n".join(lines)) for lines in pieces]


def is_capable(model: str) -> bool:
    """Whether a model is taken to be capable of these steps: by the size in its name, else if it is hosted.

    Args:
        model: a model string, such as "openai/gpt-4o-mini" or "ollama_chat/qwen2.5:0.5b".
    """
    sizes = [float(number) / (1 if unit.lower() == "b" else 1000) for number, unit in _SIZE.findall(model)]
    return max(sizes) >= CAPABLE_BILLIONS if sizes else not model.startswith("embedded/")
