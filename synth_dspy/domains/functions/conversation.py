"""Long conversations in a small context: pruned by relevance to the last message, or replaced by a running summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import dspy

from synth_dspy.domains.functions.prompts import Turn, show_request
from synth_dspy.models.adapter import PlainAdapter

History = Literal["prune", "summary", "all"]


def words_of(turn: Turn) -> int:
    """The length of a turn as it is shown, in words; for calls, characters are converted to words."""
    return len(str(turn.get("content", "")).split()) + len(str(turn.get("calls") or "")) // 6


def prune(turns: Sequence[Turn], question: str, embed: Callable[[Sequence[str]], Any], words: int) -> list[Turn]:
    """The exchanges that fit a budget: the last one, then those most like the question; in their order.

    An exchange is a message of the user with everything up to the next one: a result without its call, or an
    answer without its question, is useless.

    Args:
        turns: the conversation before the question.
        question: the last message.
        embed: texts to unit vectors.
        words: the budget. The last exchange is kept whatever its length.
    """
    if sum(map(words_of, turns)) <= words:
        return list(turns)
    exchanges: list[list[Turn]] = []
    for turn in turns:
        if turn["role"] == "user" or not exchanges:
            exchanges.append([])
        exchanges[-1].append(turn)
    vectors = embed([question, *(str(exchange[0].get("content", "")) for exchange in exchanges)])
    near = vectors[1:] @ vectors[0]
    last = len(exchanges) - 1
    kept, left = {last}, words - sum(map(words_of, exchanges[last]))
    for i in sorted(range(last), key=lambda i: -float(near[i])):
        cost = sum(map(words_of, exchanges[i]))
        if cost <= left:
            kept.add(i)
            left -= cost
    return [turn for i in sorted(kept) for turn in exchanges[i]]


class SumUp(dspy.Signature):
    """Sum up the conversation in a few short sentences. Keep every name, number, date and result."""

    summary_so_far: str = dspy.InputField()
    conversation: str = dspy.InputField()
    summary: str = dspy.OutputField()


class RunningSummary(dspy.Module):
    """Replaces all but the last exchange by a summary, made from the previous summary and the turns since."""

    def __init__(self, words: int = 60) -> None:
        super().__init__()
        self.words = words
        self.sum_up = dspy.Predict(SumUp)

    def forward(self, turns: Sequence[Turn], words: int) -> list[Turn]:
        """Turns within a budget of words; unchanged if they fit."""
        if sum(map(words_of, turns)) <= words:
            return list(turns)
        starts = [i for i, turn in enumerate(turns) if turn["role"] == "user"]
        cut = starts[-1] if starts else 0
        old, recent = list(turns[:cut]), list(turns[cut:])
        summary = ""
        while old:  # piece by piece: what does not fit the context cannot be summed up in one
            piece = [old.pop(0)]
            while old and sum(map(words_of, piece)) + words_of(old[0]) <= words:
                piece.append(old.pop(0))
            if piece[0]["role"] == "summary":
                summary = str(piece.pop(0)["content"])
            if piece:
                text = show_request("", piece, "json").removesuffix("\nUser: ")
                with dspy.context(adapter=PlainAdapter()):
                    prediction = self.sum_up(
                        summary_so_far=summary or "none", conversation=text, config={"max_tokens": 2 * self.words}
                    )
                summary = " ".join(str(prediction.summary).split()[: self.words])
        return [{"role": "summary", "content": summary}, *recent] if summary else recent
