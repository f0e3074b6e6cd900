"""Scoring pairs of texts: a small transformer reads both together, run by OpenVINO in this process.

The weights are those of an embedding model with a low-rank adapter (LoRA, Hu et al., arXiv:2106.09685) and a linear
head on the mean of the token states, both in one safetensors file: `<layer>.a`, `<layer>.b`, `head.weight`,
`head.bias`. They are merged and converted once, by torch, and cached.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import SetupError
from synth_dspy.models.embedder import convert, load_queue, load_tokenizer, load_transformer, run_batches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LONGEST = 96
"""Tokens of a pair; the longer text is cut."""
_IR = "cross_encoder.xml"
_FORMAT = 1  # raise it when the converted model changes


class CrossEncoder:
    """Scores pairs of texts. Loaded on first use; safe to call from several threads.

    Args:
        model: the embedding model that the adapter was trained on: a registered name, or a folder.
        adapter: safetensors file of the adapter and the head.

    Raises (on first use):
        SetupError: there is no such model or adapter, or they do not fit together.
    """

    def __init__(self, model: str, adapter: Path) -> None:
        self._model, self._adapter = model, adapter
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """The head's value for each pair, shape (pairs,)."""
        import numpy as np

        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        tokenizer, queue = self._loaded
        encodings = tokenizer.encode_batch_fast([tuple(pair) for pair in pairs])
        values = np.zeros(len(encodings), np.float32)

        def keep(batch: Sequence[int], request: Any) -> None:
            values[list(batch)] = request.get_output_tensor(0).data

        run_batches(self._lock, queue, encodings, keep, types=True)
        return values

    def _load(self) -> tuple[Any, Any]:
        from synth_dspy.models.weights.cache import kept
        from synth_dspy.models.weights.registry import resolve

        folder = resolve(self._model)
        try:
            key = f"{_FORMAT}|{folder.resolve()}|{hashlib.sha256(self._adapter.read_bytes()).hexdigest()}"
        except OSError as error:
            raise SetupError(f"The adapter {self._adapter} cannot be read ({error.strerror}).") from error

        def write(part: Path) -> None:
            part.mkdir()
            convert(merged(folder, self._adapter), 3, part / _IR)

        converted = kept(f"pairs-{hashlib.sha256(key.encode()).hexdigest()[:16]}", write)
        return load_tokenizer(folder, LONGEST), load_queue(converted / _IR)


def merged(folder: Path, adapter: Path) -> Any:
    """The torch module of a model with its adapter merged: token ids, mask and segments to one value for each pair."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    transformer = load_transformer(folder)
    try:
        weights = {name: value.float() for name, value in load_file(adapter).items()}
        head = torch.nn.Linear(weights["head.weight"].shape[1], 1)
        head.load_state_dict({"weight": weights.pop("head.weight"), "bias": weights.pop("head.bias")})
        with torch.no_grad():
            for name in sorted({name.rpartition(".")[0] for name in weights}):
                transformer.get_submodule(name).weight += weights[f"{name}.b"] @ weights[f"{name}.a"]
    except (SafetensorError, KeyError, AttributeError, RuntimeError) as error:
        raise SetupError(f"The adapter {adapter} does not fit the model in {folder} ({error}).") from error
    return pair_module(transformer, head).eval()


def pair_module(transformer: Any, head: Any) -> Any:
    """The torch module of a transformer and a head on the mean of its states."""
    import torch

    class Pair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer, self.head = transformer, head

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            states = self.transformer(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            return self.head((states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)).squeeze(-1)

    return Pair()
