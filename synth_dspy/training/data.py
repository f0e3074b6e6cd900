"""Tokenises training rows into exactly the tokens that the served model reads and writes.

The prompt is rendered by the model's own chat template, up to the start of the assistant's reply. The completion is the
rendered assistant message up to the end-of-turn token: serving stops there, so what the template writes after it
(usually a line break) is not trained on.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

from synth_dspy.core.errors import ArmError
from synth_dspy.core.io import jsonl
from synth_dspy.models.chat import render
from synth_dspy.training.sequences import Group
from synth_dspy.training.spec import Method

T = TypeVar("T")

Row = dict[str, Any]
Message = Mapping[str, Any]

SIDES: Mapping[Method, tuple[str, ...]] = {
    "sft": ("completion",),
    "dpo": ("chosen", "rejected"),
    "orpo": ("chosen", "rejected"),
    "kto": ("completion",),
    "grpo": (),
    "rloo": (),
    "online_dpo": (),
    "cpt": (),
}
"""The fields that hold an assistant's reply."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows with their tokens, in parallel; completions as in `SIDES`."""

    rows: tuple[Row, ...]
    groups: tuple[Group, ...]
    left_out: int = 0
    """Number of rows that were too long."""

    def first(self, number: int) -> TokenRows:
        """The first `number` rows."""
        if number >= len(self.rows):
            return self
        return TokenRows(self.rows[:number], self.groups[:number], self.left_out)


def _chat(value: Any) -> str | None:
    messages = isinstance(value, list) and bool(value)
    if messages and all(isinstance(single, dict) and {"role", "content"} <= single.keys() for single in value):
        return None
    return "make it a list of chat messages, each with role and content"


def _reply(value: Any) -> str | None:
    single = _chat(value) is None and len(value) == 1 and value[0]["role"] == "assistant"
    return None if single and isinstance(value[0]["content"], str) else "make it a list of one message of the assistant"


def read_rows(path: Path, method: Method) -> list[Row]:
    """The rows of a JSON-lines file.

    Raises:
        SetupError: the file cannot be read, or a row lacks a field; names file, line and field.
    """
    if method == "cpt":
        return jsonl.read_rows(path, {"text": jsonl.FILLED})
    fields: dict[str, Callable[[Any], str | None]] = {"prompt": _chat, **dict.fromkeys(SIDES[method], _reply)}
    if method == "kto":
        fields["label"] = jsonl.BOOL
    return jsonl.read_rows(path, fields, optional={"reply_tokens": jsonl.COUNT})


def read_prompts(path: Path) -> list[list[Row]]:
    """The prompts (chat messages) of a JSON-lines file.

    Raises:
        SetupError: the file cannot be read, or a line has no `prompt`.
    """
    return [row["prompt"] for row in jsonl.read_rows(path, {"prompt": _chat})]


def tokenize(rows: Sequence[Row], method: Method, tokenizer: Any, *, max_tokens: int, sampled: int = 0) -> TokenRows:
    """Tokenise rows, dropping those longer than `max_tokens`.

    A reply is cut where serving would cut it (a row's `reply_tokens`), and then has no end-of-turn token.

    Args:
        rows: the rows, from `read_rows`.
        method: the training method.
        tokenizer: the base model's, with its chat template.
        max_tokens: maximum length of a prompt with its longest completion.
        sampled: tokens to reserve for a sampled reply.

    Raises:
        ArmError: no row is short enough.
    """
    if method == "cpt":
        return _blocks(rows, tokenizer, max_tokens)
    kept: list[tuple[Row, Group]] = []
    for row in rows:
        replies = [reply_ids(tokenizer, row["prompt"], row[side])[: row.get("reply_tokens")] for side in SIDES[method]]
        group = Group(prompt_ids(tokenizer, row["prompt"]), replies)
        if len(group.prompt) + max(map(len, replies), default=sampled) <= max_tokens:
            kept.append((row, group))
    if not kept:
        raise ArmError(
            f"None of the {len(rows)} rows fits into training.options.{method}.max_tokens = {max_tokens}: raise it, or "
            "shorten the prompts."
        )
    return TokenRows(tuple(row for row, _ in kept), tuple(group for _, group in kept), len(rows) - len(kept))


def _blocks(rows: Sequence[Row], tokenizer: Any, size: int) -> TokenRows:
    """Texts one after another, each with an end-of-text token, cut into blocks of `size` tokens.

    All tokens of a block but its first are predicted. The last block may be shorter.
    """
    ids = [token for row in rows for token in (*_encode(tokenizer, row["text"]), tokenizer.eos_token_id)]
    blocks = [ids[start : start + size] for start in range(0, len(ids), size)]
    groups = tuple(Group(block[:1], [block[1:]]) for block in blocks if len(block) > 1)
    return TokenRows(tuple({"id": f"block-{number}"} for number in range(len(groups))), groups)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The token ids of a prompt as the served model gets it."""
    return _encode(tokenizer, render(tokenizer, messages))


def reply_ids(tokenizer: Any, prompt: Sequence[Message], reply: Sequence[Message]) -> list[int]:
    """The token ids of a reply as the served model would write it after the prompt, with the end-of-turn token."""
    before = render(tokenizer, prompt)
    whole = render(tokenizer, [*prompt, *reply], reply=False)
    # Some templates render earlier turns differently (without their reasoning, say): then use the plain text.
    ids = _encode(tokenizer, whole.removeprefix(before) if whole.startswith(before) else reply[-1]["content"])
    special = set(tokenizer.all_special_ids)
    end = next((position for position, token in enumerate(ids) if token in special), len(ids))
    return [*ids[:end], ids[end] if end < len(ids) else tokenizer.eos_token_id]


def fill_steps(rows: Sequence[T], batch: int) -> list[T]:
    """The rows, with the first ones repeated to fill the last batch: TRL's GRPO drops incomplete batches."""
    return list(islice(cycle(rows), math.ceil(len(rows) / batch) * batch))


def bins(groups: Sequence[Group], most: int) -> list[tuple[int, ...]]:
    """Pack groups into sequences of at most `most` tokens, by best fit decreasing; n log n, for many thousands of rows.

    Returns:
        For each sequence the indices of its groups.
    """
    filled: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, sequence), sorted
    for index in sorted(range(len(groups)), key=lambda index: -groups[index].tokens):
        size = groups[index].tokens
        place = bisect_left(room, (size, -1))
        if place < len(room):
            free, sequence = room.pop(place)
            filled[sequence].append(index)
        else:
            free, sequence = most, len(filled)
            filled.append([index])
        insort(room, (free - size, sequence))
    return [tuple(members) for members in filled]


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
