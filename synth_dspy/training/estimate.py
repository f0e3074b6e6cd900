"""Estimates the time and memory of a training before it starts.

The FLOPs are counted from the rows' tokens and the model's shape. The speed is that of one matrix product of the
model's size, measured here in a tenth of a second, times the share of it that training reaches (measured on the
embedded model). Expect the estimate to be right within a factor of 1.5 on an otherwise idle machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from synth_dspy.training.data import TokenRows, fill_steps
from synth_dspy.training.sequences import CHUNK, Group
from synth_dspy.training.spec import ONLINE, TrainSpec

# Share of the speed of a bare matrix product. In bf16 products are so fast that everything else takes as long.
_SHARE = {("cpu", False): 0.55, ("cpu", True): 0.32, ("cuda", False): 0.4, ("cuda", True): 0.4}
_PROBE_S = 0.1
_VALUES_HIDDEN, _VALUES_INNER = 16, 6  # activations kept for the backward pass, in multiples of the model's widths
_LIBRARIES_GIB = 0.75  # resident memory after the imports
_DECODE = 20  # cost of a sampled token in prompt tokens: decoding is bound by memory bandwidth


@dataclass(frozen=True, slots=True)
class Estimate:
    """The size of a training and its estimated cost.

    Attributes:
        rows: Rows to train on.
        left_out: Rows that are too long.
        tokens: Tokens read in all epochs.
        steps: Optimizer steps.
        estimate_s: Seconds of training, without loading, merging and the parity check.
        estimate_gib: Peak memory of the process, or of the GPU.
    """

    rows: int
    left_out: int
    tokens: int
    steps: int
    estimate_s: float
    estimate_gib: float

    def asdict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The shape of a Llama-like model and its adapter."""

    hidden: int
    inner: int
    depth: int
    vocabulary: int
    attention: int
    """Weights of one layer's four attention matrices."""
    adapted_layers: int
    """Layers with an adapter."""
    adapter: int
    """Weights of the adapter."""

    @property
    def layers(self) -> int:
        """Weights of all layers' matrices."""
        return self.depth * (self.attention + 3 * self.hidden * self.inner)


def estimate(spec: TrainSpec, train: TokenRows, model: Any, *, bf16: bool) -> Estimate:
    """Estimate a training.

    Args:
        spec: what to train.
        train: its rows.
        model: the loaded base, on its device.
        bf16: whether training computes in bfloat16.
    """
    shape = _shape(spec, model.config)
    groups = [_read(spec, group) for group in train.groups]
    if spec.method in ONLINE:
        groups = fill_steps(groups, spec.batch)
    rate = _matmul_rate(model, shape, bf16) * _SHARE.get((model.device.type, bf16), 0.4)
    seconds = sum(_flops(spec, shape, read, predicted) for read, predicted in groups) * spec.epochs / rate
    if spec.method in ONLINE:
        sampled = len(groups) * spec.generations * spec.completion_tokens * spec.epochs
        seconds += sampled * _DECODE * 2 * shape.layers / rate
    return Estimate(
        rows=len(train.groups),
        left_out=train.left_out,
        tokens=round(sum(read for read, _ in groups) * spec.epochs),
        steps=math.ceil(math.ceil(len(groups) / spec.batch) * spec.epochs),
        estimate_s=round(seconds, 3),
        estimate_gib=round(_bytes(spec, model, shape, groups, bf16) / 2**30, 2),
    )


def _shape(spec: TrainSpec, config: Any) -> _Shape:
    hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
    inner, depth = int(config.intermediate_size), int(config.num_hidden_layers)
    head = int(getattr(config, "head_dim", None) or hidden // heads)
    q, kv = heads * head, int(getattr(config, "num_key_value_heads", None) or heads) * head
    sides = {"q_proj": hidden + q, "k_proj": hidden + kv, "v_proj": hidden + kv, "o_proj": hidden + q}
    adapted_layers = min(spec.lora.layers or depth, depth)
    return _Shape(
        hidden=hidden,
        inner=inner,
        depth=depth,
        vocabulary=int(config.vocab_size),
        attention=2 * hidden * (q + kv),
        adapted_layers=adapted_layers,
        adapter=adapted_layers * spec.lora.rank * sum(sides.get(name, hidden + inner) for name in spec.lora.targets),
    )


def _read(spec: TrainSpec, group: Group) -> tuple[int, int]:
    """(tokens read, tokens predicted) of a row."""
    if spec.method in ONLINE:
        sampled = spec.generations * spec.completion_tokens
        return spec.generations * len(group.prompt) + sampled, sampled
    predicted = sum(map(len, group.completions))
    # KTO's rows carry a mismatched answer of similar length.
    return (group.tokens + predicted, 2 * predicted) if spec.method == "kto" else (group.tokens, predicted)


def _flops(spec: TrainSpec, shape: _Shape, read: int, predicted: int) -> float:
    """FLOPs of one row in one epoch: forward, backward through the adapted layers, and the reference pass if any."""
    share = shape.adapted_layers / shape.depth
    attention = 2 * shape.hidden * read * shape.depth  # per token, causal
    output = predicted * 2 * shape.hidden * shape.vocabulary
    forward = read * (2 * shape.layers + attention) + output
    backward = read * (2 * shape.layers + 2 * attention) * share + output
    again = share if spec.gradient_checkpointing else 0.0
    reference = 1 / max(spec.epochs, 1) if spec.method in ("dpo", "kto", *ONLINE) else 0.0
    return (1 + again + reference) * forward + backward + 6 * read * shape.adapter


def _bytes(spec: TrainSpec, model: Any, shape: _Shape, groups: Sequence[tuple[int, int]], bf16: bool) -> float:
    """Peak memory in bytes."""
    size = 2.5 if bf16 else 4  # mean bytes per value; under autocast some stay in float32
    weights = sum(int(parameter.numel()) * int(parameter.element_size()) for parameter in model.parameters())
    read, predicted = max(groups)
    if spec.packing and spec.method == "sft":
        read = spec.max_tokens
        predicted = round(read * sum(each for _, each in groups) / sum(each for each, _ in groups))
    if spec.method == "kto":
        read, predicted = 2 * read, 2 * predicted
    values = _VALUES_HIDDEN * shape.hidden + _VALUES_INNER * shape.inner  # per token and layer
    adapted = shape.adapted_layers
    layers = adapted * shape.hidden + values if spec.gradient_checkpointing else adapted * values
    logits = min(predicted, 2 * CHUNK) * shape.vocabulary * 12  # logits, softmax and gradient
    libraries = _LIBRARIES_GIB * 2**30 if model.device.type == "cpu" else 2**29
    return weights + 16 * shape.adapter + read * layers * size + logits + libraries


def _matmul_rate(model: Any, shape: _Shape, bf16: bool) -> float:
    """FLOP/s of a matrix product of the model's size."""
    import torch

    kind = torch.bfloat16 if bf16 else torch.float32
    rows = 320
    left = torch.ones(rows, shape.hidden, dtype=kind, device=model.device)
    right = torch.ones(shape.inner, shape.hidden, dtype=kind, device=model.device)

    def time_product() -> float:
        started = time.perf_counter()
        (left @ right.T)[0, 0].item()  # reading the value synchronises with a GPU
        return time.perf_counter() - started

    time_product()
    best, end = math.inf, time.perf_counter() + _PROBE_S
    while time.perf_counter() < end:
        best = min(best, time_product())
    return 2.0 * rows * shape.hidden * shape.inner / best
