"""A token that marks where a function call begins, such as `<tool_call>`: one id, in training, GGUF file and stream.

Many models know such a token. For one that does not, an unused place of its vocabulary is claimed: a reserved special
token (SmolLM2 has `<empty_output>`, Llama 3 `<|reserved_special_token_0|>`), or a row of the embedding that no token
has. The token is renamed in the tokeniser and in the merged file, and is no longer a special token, since decoding
drops those.

Rows of tokens that were never trained are all alike: those of SmolLM2's reserved tokens are equal, and of cosine 0.99
with `<|im_end|>`, so that no training of other weights could tell one from another. The claimed row is therefore set
anew, half the mean of the pieces that the string was made of before, half a fixed direction of its own. The adapter
learns to use it; the row itself is not trained.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError

_RESERVED = re.compile(
    r"<\|?(reserved|unused|extra|dummy)\w*\|?>|\[(PAD|unused)\d+\]"
    r"|<(repo_?name|file_sep|filename|gh_stars|issue_\w+|jupyter_\w+|empty_output)>"  # of models of code
)
_USER_DEFINED = 4  # GGUF's kind of a token that is one id and no special token
_MATRICES = ("token_embd.weight", "output.weight")


@dataclass(frozen=True, slots=True)
class CallToken:
    """A marker and its place in the vocabulary.

    Attributes:
        text: As it stands in prompts and replies.
        id: Its id.
        was: The token whose place it takes, perhaps of the same name; "" for a place without a token; None if the
            model knows the marker, and nothing changes.
        pieces: The ids of the string before it was one token.
    """

    text: str
    id: int
    was: str | None = None
    pieces: tuple[int, ...] = ()


def find(tokenizer: Any, text: str, rows: int) -> CallToken:
    """The place that a marker has, or gets, in a vocabulary; always the same for the same tokeniser.

    Args:
        tokenizer: A Hugging Face tokeniser with its chat template.
        text: The marker.
        rows: Of the embedding.

    Raises:
        SetupError: The model does not know it, and has no place to spare.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not text.strip() or text != text.strip() or not ids:
        raise SetupError(f"call_token is {text!r}: take a word such as <tool_call>, without spaces around it.")
    special = {each: token for token, each in tokenizer.get_vocab().items() if each in tokenizer.all_special_ids}
    if len(ids) == 1 and ids[0] not in special:
        return CallToken(text, ids[0])
    roles = {getattr(tokenizer, f"{role}_token") for role in ("bos", "eos", "pad", "unk")}
    template = tokenizer.chat_template or ""
    if len(ids) == 1:
        if text in roles or text in template:
            raise SetupError(f"call_token is {text!r}, which the model has another use for: name another.")
        return CallToken(text, ids[0], text, _pieces(tokenizer, text))
    spare = [
        (index, token)
        for token, index in tokenizer.get_vocab().items()
        if _RESERVED.fullmatch(token) and index < rows and token not in roles and token not in template
    ]
    if spare:
        index, token = max(spare)
        return CallToken(text, index, token, tuple(ids))
    if len(tokenizer) < rows:
        return CallToken(text, len(tokenizer), "", tuple(ids))
    raise SetupError(
        f"The model knows no token {text!r} and has no unused one whose place it could take: set call_token to a "
        "token that it knows, or leave it out."
    )


def renamed(tokenizer: Any, token: CallToken) -> Any:
    """The tokeniser with the marker as one token."""
    if token.was is None:
        return tokenizer
    if token.was == "":
        from tokenizers import AddedToken

        tokenizer.add_tokens([AddedToken(token.text, special=False, normalized=False)])
        return tokenizer
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        for path in Path(scratch).glob("*.json"):
            value = json.loads(path.read_text(encoding="utf-8"))
            changed = _changed(value, token, special_lists=path.name != "tokenizer.json")
            path.write_text(json.dumps(changed, ensure_ascii=False), encoding="utf-8")
        return AutoTokenizer.from_pretrained(scratch, local_files_only=True)


def set_rows(model: Any, token: CallToken) -> None:
    """Give the marker its row in a torch model's embedding, and in its output matrix if that is another."""
    if token.was is None:
        return
    import torch

    matrices = {id(each.weight): each.weight for each in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for weight in matrices.values():
            weight[token.id] = torch.from_numpy(_row(weight.detach().float().cpu().numpy(), token)).to(weight)


def gguf_metadata(token: CallToken, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What changes in a GGUF file's metadata; `fields` are those of its `gguf.GGUFReader`."""
    if token.was is None:
        return {}
    names = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    tokens, kinds = (list(fields[name].contents()) for name in names)
    tokens[token.id], kinds[token.id] = token.text, _USER_DEFINED
    return dict(zip(names, (tokens, kinds), strict=True))


def gguf_values(token: CallToken, name: str, values: Any) -> Any:
    """A tensor's float32 values, [rows, columns], with the marker's row if the tensor has one."""
    if token.was is None or name not in _MATRICES:
        return values
    values = values.copy()
    values[token.id] = _row(values, token)
    return values


def changes(token: CallToken | None, name: str) -> bool:
    """Whether a tensor of a GGUF file has a row for the marker to be set."""
    return token is not None and token.was is not None and name in _MATRICES


def _row(matrix: Any, token: CallToken) -> Any:
    """The marker's row: as long as the pieces' rows are, and as far from their mean as from a direction of its own."""
    import numpy as np

    pieces = matrix[list(token.pieces)].astype(np.float64)
    mean = pieces.mean(axis=0)
    width = matrix.shape[1]
    bits = np.frombuffer(hashlib.shake_256(token.text.encode()).digest(-(-width // 8)), np.uint8)
    signs = np.unpackbits(bits)[:width] * 2.0 - 1.0
    row = mean / np.linalg.norm(mean) + signs / np.sqrt(width)
    return (row / np.linalg.norm(row) * np.linalg.norm(pieces, axis=1).mean()).astype(np.float32)


def _pieces(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The ids of a special token's name as ordinary text."""
    parts = re.findall(r"\w+|\W", text)
    return tuple(each for part in parts for each in tokenizer(part, add_special_tokens=False)["input_ids"])


def _changed(value: Any, token: CallToken, *, special_lists: bool) -> Any:
    """A tokeniser's settings with the token renamed, and taken off the lists of special tokens."""
    if isinstance(value, dict):
        named = {
            token.text if key == token.was else key: _changed(each, token, special_lists=special_lists)
            for key, each in value.items()
        }
        if value.get("content") == token.was and "special" in value:
            named |= {"content": token.text, "special": False, "normalized": False}
        return named
    if isinstance(value, list):
        kept = [each for each in value if not (special_lists and each == token.was)]
        return [_changed(each, token, special_lists=special_lists) for each in kept]
    return value
