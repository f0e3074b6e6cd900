"""The memory of a training, part by part, from the model's shape: known before any weights are loaded.

Bytes that autograd keeps per token and layer of a Llama-like model with LoRA on all projections (h: hidden width, q:
width of all heads, i: inner width, L: tokens of the sequence):

- weights in bf16: 20 h + 8 q + 8 i + 2 L (the norms compute in float32; L is the row of the attention mask);
- all in float32: 16 h + 16 q + 16 i + 4 L;
- float32 weights under bf16 autocast: as in bf16, and a bf16 copy of every matrix (`frozen.py`).

With gradient checkpointing a layer keeps only its input, and one layer at a time is computed again. The coefficients
are what `torch.autograd.graph.saved_tensors_hooks` counts (`tests/training/test_memory.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from synth_dspy.training.frozen import is_copied
from synth_dspy.training.sequences import CHUNK
from synth_dspy.training.spec import TrainSpec

GIB = 2**30
USABLE = 0.92
"""Share of the free memory to plan with: the rest is for fragmentation."""
LIBRARIES = {"cpu": 0.85 * GIB, "cuda": 0.6 * GIB}
"""Resident memory after the imports; on a GPU its context, kernels and work space."""
FOUR_BITS = 0.516
"""Bytes per weight in NF4 with double quantisation: half a byte and .127 bits of scale (Dettmers et al., section 3)."""
OPTIMIZER = {"adamw": 16, "adamw_8bit": 10}
"""Bytes per trained weight: the weight and its gradient in float32, and two moments of 4 bytes or 1 byte each."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a Llama-like model and its adapter.

    Attributes:
        hidden: Hidden width.
        heads: Width of all query heads.
        inner: Inner width.
        depth: Layers.
        vocabulary: Rows of the embedding.
        attention: Weights of one layer's four attention matrices.
        adapted_layers: Layers from the first with an adapter up.
        adapter: Weights of the adapter.
        embeddings: Weights of the embedding and of the output layer.
    """

    hidden: int
    heads: int
    inner: int
    depth: int
    vocabulary: int
    attention: int
    adapted_layers: int
    adapter: int
    embeddings: int

    @classmethod
    def of(cls, spec: TrainSpec, config: Any) -> Shape:
        """The shape of a transformers configuration, with the spec's adapter."""
        hidden, heads = int(config.hidden_size), int(config.num_attention_heads)
        inner, depth = int(config.intermediate_size), int(config.num_hidden_layers)
        head = int(getattr(config, "head_dim", None) or hidden // heads)
        q, kv = heads * head, int(getattr(config, "num_key_value_heads", None) or heads) * head
        sides = {"q_proj": hidden + q, "k_proj": hidden + kv, "v_proj": hidden + kv, "o_proj": hidden + q}
        adapted = min(spec.lora.layers or depth, depth)
        vocabulary = int(config.vocab_size)
        return cls(
            hidden=hidden,
            heads=q,
            inner=inner,
            depth=depth,
            vocabulary=vocabulary,
            attention=2 * hidden * (q + kv),
            adapted_layers=adapted,
            adapter=adapted * spec.lora.rank * sum(sides.get(name, hidden + inner) for name in spec.lora.targets),
            embeddings=(1 if config.tie_word_embeddings else 2) * vocabulary * hidden,
        )

    @property
    def layers(self) -> int:
        """Weights of all layers' matrices."""
        return self.depth * (self.attention + 3 * self.hidden * self.inner)


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory of a training by part, in bytes.

    Attributes:
        weights: The base.
        copies: bf16 copies of float32 weights under autocast.
        adapter: The adapter, its gradient and the optimizer's moments; of all weights, gradients and moments.
        activations: Values kept for the backward pass.
        transient: The larger of the logits with their gradient, and of one layer's gradients.
        libraries: The process without a model.
    """

    weights: float
    copies: float
    adapter: float
    activations: float
    transient: float
    libraries: float

    @property
    def total(self) -> float:
        """All parts together."""
        return float(sum(asdict(self).values()))

    def gib(self) -> dict[str, float]:
        """The parts in GiB."""
        return {name: round(value / GIB, 2) for name, value in asdict(self).items()}


def memory(
    spec: TrainSpec, shape: Shape, *, tokens: int, predicted: int, bf16: bool, device: str, weights: float | None = None
) -> Memory:
    """The peak memory of a training.

    Args:
        spec: What to train; `auto` counts as false.
        shape: The model and its adapter.
        tokens: Tokens of the largest micro-batch.
        predicted: Tokens of it that are predicted.
        bf16: Whether training computes in bfloat16.
        device: "cpu" or "cuda".
        weights: Bytes of the loaded base; None: from the shape.
    """
    quantize = spec.quantize is True
    halves = bf16 and device == "cuda" and not spec.full  # on a CPU the weights stay in float32
    width = 2 if halves else 4
    if weights is None:
        weights = shape.layers * (FOUR_BITS if quantize else width) + shape.embeddings * (2 if quantize else width)
    if bf16:
        per_token = 20 * shape.hidden + 8 * shape.heads + 8 * shape.inner + 2 * tokens
    else:
        per_token = 16 * (shape.hidden + shape.heads + shape.inner) + 4 * tokens
    adapted = shape.adapted_layers
    if spec.gradient_checkpointing is True:
        activations = tokens * (adapted * width * shape.hidden + per_token)
    else:
        activations = tokens * adapted * per_token
    copied = 0.0 if halves or not bf16 else 2.0 * shape.layers
    if copied and not is_copied(spec, bf16=bf16, device=device):  # those of autocast live as long as the backward pass
        copied *= (1 if spec.gradient_checkpointing is True else adapted) / shape.depth
    logits = min(predicted, CHUNK) * shape.vocabulary * (16 if bf16 else 12)
    layer = tokens * (3 * shape.inner + 4 * shape.hidden) * (2 if bf16 else 4)
    dequantized = 2 * shape.hidden * shape.inner if quantize else 0
    moments = OPTIMIZER["adamw_8bit" if spec.optimizer == "adamw_8bit" else "adamw"]
    trained = weights / 4 * (moments - 4) if spec.full else shape.adapter * moments  # the weights are counted already
    return Memory(
        weights=weights,
        copies=copied + (2.0 * shape.vocabulary * shape.hidden if copied else 0.0),
        adapter=trained,
        activations=activations,
        transient=max(logits, layer) + dequantized,
        libraries=LIBRARIES.get(device, LIBRARIES["cuda"]),
    )
