"""A marker token such as `<tool_call>` that begins a function call: one id in training, GGUF file and replies.

Many models have such a token. For one that does not, an unused entry of its vocabulary is taken: a reserved special
token (SmolLM2 has `<empty_output>`, Llama 3 `<|reserved_special_token_0|>`), or a row of the embedding without a token.
The token is renamed in the tokeniser and in the merged file, and loses its status as a special token, since decoding
drops those.

Embeddings of untrained tokens are all alike: those of SmolLM2's reserved tokens are equal, with a cosine of 0.99 to
`<|im_end|>`, so that training other weights could not tell them apart. The row is therefore reinitialised: half the
mean of the tokens that the string consisted of before, half a fixed direction of its own. The adapter learns to use it;
the row itself is not trained.
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
    r"|<(repo_?name|file_sep|filename|gh_stars|issue_\w+|jupyter_\w+|empty_output)>"  # code models
)
_USER_DEFINED = 4  # GGUF's type of added tokens that are not special
_MATRICES = ("token_embd.weight", "output.weight")


@dataclass(frozen=True, slots=True)
class CallToken:
    """A marker and its entry in the vocabulary.

    Attributes:
        text: Its text in prompts and replies.
        id: Its id.
        replaces: The token that it replaces, perhaps of the same name; "" for an entry without a token; None if the
            model has the marker already, so that nothing changes.
        pieces: The ids of the string before it became one token.
    """

    text: str
    id: int
    replaces: str | None = None
    pieces: tuple[int, ...] = ()


def find(tokenizer: Any, text: str, rows: int) -> CallToken:
    """Find or choose the vocabulary entry of a marker; deterministic for a tokeniser.

    Args:
        tokenizer: A Hugging Face tokeniser with its chat template.
        text: The marker.
        rows: Number of rows of the embedding.

    Raises:
        SetupError: The model does not have the marker, and no unused entry.
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
            raise SetupError(f"call_token is {text!r}, which the model uses for something else: name another.")
        return CallToken(text, ids[0], text, _pieces(tokenizer, text))
    unused = [
        (index, token)
        for token, index in tokenizer.get_vocab().items()
        if _RESERVED.fullmatch(token) and index < rows and token not in roles and token not in template
    ]
    if unused:
        index, token = max(unused)
        return CallToken(text, index, token, tuple(ids))
    if len(tokenizer) < rows:
        return CallToken(text, len(tokenizer), "", tuple(ids))
    raise SetupError(
        f"The model has no token {text!r} and no unused one that it could replace: set call_token to a token that the "
        "model has, or leave it out."
    )


def renamed(tokenizer: Any, token: CallToken) -> Any:
    """The tokeniser with the marker as one token."""
    if token.replaces is None:
        return tokenizer
    if token.replaces == "":
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
    """Set the marker's row in a torch model's embedding, and in its output matrix if that is separate."""
    if token.replaces is None:
        return
    import torch

    matrices = {id(each.weight): each.weight for each in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for weight in matrices.values():
            weight[token.id] = torch.from_numpy(_row(weight.detach().float().cpu().numpy(), token)).to(weight)


def gguf_metadata(token: CallToken, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The changed metadata of a GGUF file; `fields` are those of its `gguf.GGUFReader`."""
    if token.replaces is None:
        return {}
    names = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    tokens, kinds = (list(fields[name].contents()) for name in names)
    tokens[token.id], kinds[token.id] = token.text, _USER_DEFINED
    return dict(zip(names, (tokens, kinds), strict=True))


def gguf_values(token: CallToken, name: str, values: Any) -> Any:
    """A tensor's float32 values, [rows, columns], with the marker's row set if the tensor has one."""
    if token.replaces is None or name not in _MATRICES:
        return values
    values = values.copy()
    values[token.id] = _row(values, token)
    return values


def changes(token: CallToken | None, name: str) -> bool:
    """Whether the marker changes a row of this tensor of a GGUF file."""
    return token is not None and token.replaces is not None and name in _MATRICES


def _row(matrix: Any, token: CallToken) -> Any:
    """The marker's row: the pieces' mean norm, in a direction halfway between their mean and a fixed one of its own."""
    import numpy as np

    pieces = matrix[list(token.pieces)].astype(np.float64)
    mean = pieces.mean(axis=0)
    width = matrix.shape[1]
    bits = np.frombuffer(hashlib.shake_256(token.text.encode()).digest(-(-width // 8)), np.uint8)
    signs = np.unpackbits(bits)[:width] * 2.0 - 1.0
    row = mean / np.linalg.norm(mean) + signs / np.sqrt(width)
    return (row / np.linalg.norm(row) * np.linalg.norm(pieces, axis=1).mean()).astype(np.float32)


def _pieces(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The ids of a special token's text, tokenised as ordinary text."""
    parts = re.findall(r"\w+|\W", text)
    return tuple(each for part in parts for each in tokenizer(part, add_special_tokens=False)["input_ids"])


def _changed(value: Any, token: CallToken, *, special_lists: bool) -> Any:
    """A tokeniser's settings with the token renamed and removed from the lists of special tokens."""
    if isinstance(value, dict):
        renamed_value = {
            token.text if key == token.replaces else key: _changed(each, token, special_lists=special_lists)
            for key, each in value.items()
        }
        if value.get("content") == token.replaces and "special" in value:
            renamed_value |= {"content": token.text, "special": False, "normalized": False}
        return renamed_value
    if isinstance(value, list):
        remaining = [each for each in value if not (special_lists and each == token.replaces)]
        return [_changed(each, token, special_lists=special_lists) for each in remaining]
    return value
