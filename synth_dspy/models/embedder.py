"""The embedded embedder: maps texts to unit vectors with a small transformer, run by OpenVINO in this process.

    embedder = EmbeddedEmbedder("all-minilm-l6-v2")
    embedder.embed(["a contract", "an agreement"])          # float32, shape (2, 384), rows of length 1

The model is a sentence-transformers folder (mean pooling), converted once by torch and cached; later runs import
neither torch nor transformers. As in sentence-transformers, a text is truncated to the model's `max_seq_length` tokens
(256 for MiniLM, about 190 words): split longer texts into chunks.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import SetupError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_BATCH_TOKENS = 512  # maximum tokens of a batch of texts of similar length, which fits into a core's cache
_BATCH_TEXTS = 32
_IR = "embedder.xml"
_FORMAT = 3  # raise it when the converted model changes


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """A text's tokens in context: `vectors[i]` belongs to `tokens[i]`, which is `text[offsets[i][0]:offsets[i][1]]`.

    `vectors` is float32, shape (tokens, dimension), rows of length 1; the model's own marks are left out.
    """

    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    vectors: Vectors


class EmbeddedEmbedder:
    """An embedding model in this process. Loaded on first use; thread-safe.

    Args:
        model: A registered name, or the path of a sentence-transformers folder with mean pooling.

    Raises (on first use):
        SetupError: No such model, or the folder's model is not supported.
    """

    def __init__(self, model: str = "all-minilm-l6-v2") -> None:
        self.name = f"embedded/{model}"
        self._model = model
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def dimension(self) -> int:
        """Length of a vector; loads the model."""
        return self._load().dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`, float32, shape (texts, dimension)."""
        import numpy as np

        loaded = self._load()
        encodings = loaded.tokenizer.encode_batch_fast(list(texts))
        vectors = np.zeros((len(encodings), loaded.dimension), np.float32)

        def keep(batch: Sequence[int], request: Any) -> None:
            vectors[list(batch)] = request.get_output_tensor(0).data

        run_batches(self._lock, loaded.queue, encodings, keep)
        return vectors

    def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """Each text's tokens with their contextual vectors, for comparing texts token by token."""
        import numpy as np

        loaded = self._load()
        encodings = loaded.tokenizer.encode_batch(list(texts))
        results: list[TokenVectors | None] = [None] * len(encodings)

        def keep(batch: Sequence[int], request: Any) -> None:
            states = request.get_output_tensor(1).data
            for row, index in enumerate(batch):
                encoding = encodings[index]
                own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
                vectors = np.array(states[row, own], np.float32).reshape(len(own), loaded.dimension)
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
                results[index] = TokenVectors(
                    tuple(encoding.tokens[i] for i in own), tuple(encoding.offsets[i] for i in own), vectors
                )

        run_batches(self._lock, loaded.queue, encodings, keep)
        return [result for result in results if result is not None]

    def _load(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._model)
            return self._loaded


@dataclass(frozen=True, slots=True)
class _Loaded:
    tokenizer: Any  # tokenizers.Tokenizer
    queue: Any  # openvino.AsyncInferQueue
    dimension: int


def run_batches(lock: Any, queue: Any, encodings: Sequence[Any], keep: Any, *, types: bool = False) -> None:
    """Run every encoding once, in batches of similar length; `keep(indices, request)` takes each batch's result.

    Args:
        lock: held while the queue runs, for one set of encodings at a time.
        queue: of compiled models that take token ids and their mask.
        encodings: of the tokenizer.
        keep: takes each batch's places and its finished request.
        types: the model takes the tokens' segments too.
    """
    import numpy as np

    failures: list[Exception] = []

    def done(request: Any, batch: Sequence[int]) -> None:
        try:
            keep(batch, request)
        except Exception as error:  # it would be lost in OpenVINO's thread
            failures.append(error)

    with lock:
        queue.set_callback(done)
        for batch in _batches([len(encoding) for encoding in encodings]):
            width = len(encodings[batch[-1]])
            ids = np.zeros((len(batch), width), np.int64)
            mask, segments = np.zeros_like(ids), np.zeros_like(ids)
            for row, index in enumerate(batch):
                encoding = encodings[index]
                ids[row, : len(encoding)] = encoding.ids
                mask[row, : len(encoding)] = 1
                segments[row, : len(encoding)] = encoding.type_ids
            queue.start_async({0: ids, 1: mask, 2: segments} if types else {0: ids, 1: mask}, batch)
        queue.wait_all()
    if failures:
        raise failures[0]


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in batches of similar length, shortest first within and among batches."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        current = batches[-1] if batches else []
        if not current or len(current) == _BATCH_TEXTS or (len(current) + 1) * lengths[index] > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(index)
    return batches


def _load(model: str) -> _Loaded:
    from synth_dspy.models.weights.registry import resolve

    folder = resolve(model)
    settings = _settings(folder)
    return _Loaded(
        load_tokenizer(folder, settings["max_seq_length"]), load_queue(_converted(folder)), settings["dimension"]
    )


def load_tokenizer(folder: Path, longest: int) -> Any:
    """The tokenizer of a sentence-transformers folder, which cuts after so many tokens."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def load_queue(model: Path) -> Any:
    """A queue of requests to an OpenVINO model, compiled for this machine's CPU."""
    import openvino

    from synth_dspy.models.embedded.precision import inference_properties, precision

    # One stream per core: running batches in parallel is faster than splitting each over the cores.
    properties = {"PERFORMANCE_HINT": "THROUGHPUT", **inference_properties(precision())}
    return openvino.AsyncInferQueue(openvino.Core().compile_model(str(model), "CPU", properties))


def _settings(folder: Path) -> dict[str, int]:
    """Maximum length and dimension of a sentence-transformers model, if it is supported."""
    try:
        pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
        sentence = json.loads((folder / "sentence_bert_config.json").read_text())
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SetupError(f"{folder} is not a sentence-transformers folder ({error})") from error
    if not pooling.get("pooling_mode_mean_tokens"):
        raise SetupError(f"{folder} does not pool by the mean; only mean pooling is supported for embedding")
    return {"max_seq_length": int(sentence["max_seq_length"]), "dimension": int(config["hidden_size"])}


def _converted(folder: Path) -> Path:
    """The OpenVINO model of `folder`, converted unless it is cached."""
    from synth_dspy.models.weights.cache import kept

    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise SetupError(f"{folder} has no model.safetensors; embedding needs one")
    stat = weights.stat()
    key = f"{_FORMAT}|{folder.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"

    def write(part: Path) -> None:
        part.mkdir()
        _convert(folder, part / _IR)

    return kept(f"{folder.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}", write) / _IR


def _convert(folder: Path, target: Path) -> None:
    """Trace the transformer with pooling and normalisation into an OpenVINO model with two outputs."""
    import torch

    class Pooled(torch.nn.Module):
        """Token ids and mask to (unit vector of the text, vectors of the tokens)."""

        def __init__(self, transformer: Any) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2.0, dim=1), states

    convert(Pooled(load_transformer(folder)), 2, target)


def load_transformer(folder: Path) -> Any:
    """The transformer of a sentence-transformers folder, in torch and float32."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    return AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa").eval()


def convert(module: Any, inputs: int, target: Path) -> None:
    """Trace a torch module into an OpenVINO model.

    Args:
        module: takes `inputs` arrays of whole numbers, each of shape (texts, tokens).
        inputs: how many it takes.
        target: file of the model.
    """
    import warnings

    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.ones((2, 8), dtype=torch.int64)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's: shapes are made dynamic below, and a test compares the vectors
        traced = torch.jit.trace(module, (example,) * inputs)
        # Not openvino.convert_model, which does the same but sends telemetry.
        frontend = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
        model = frontend.convert(frontend.load(decoder))
    model.reshape({place: [-1, -1] for place in range(inputs)})
    openvino.save_model(model, target, compress_to_fp16=False)
