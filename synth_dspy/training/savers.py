"""Chooses what saves memory on a GPU: the fastest setting that fits, where the spec says `auto`.

Each saver costs time: gradient checkpointing a second forward pass, about a third; 4-bit weights their dequantisation
in every pass; so they are tried in this order, and the first that fits is taken.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.training.memory import GIB, USABLE, Shape, memory
from synth_dspy.training.spec import TrainSpec

BITS = ("quantize", "optimizer")
"""Savers that need bitsandbytes."""
LADDER: Sequence[dict[str, Any]] = (
    {"gradient_checkpointing": False, "quantize": False, "optimizer": "adamw"},
    {"gradient_checkpointing": True, "quantize": False, "optimizer": "adamw"},
    {"gradient_checkpointing": True, "quantize": False, "optimizer": "adamw_8bit"},
    {"gradient_checkpointing": True, "quantize": True, "optimizer": "adamw"},
    {"gradient_checkpointing": True, "quantize": True, "optimizer": "adamw_8bit"},
)


def resolve_savers(
    spec: TrainSpec,
    config: Any,
    *,
    tokens: int,
    predicted: int,
    bf16: bool,
    free: float | None,
    four_bits: bool | None = None,
) -> TrainSpec:
    """The spec with every `auto` among the savers replaced.

    Args:
        spec: What to train.
        config: The base's transformers configuration.
        tokens: Tokens of the largest micro-batch.
        predicted: Tokens of it that are predicted.
        bf16: Whether training computes in bfloat16.
        free: Free bytes of the GPU; None: there is no GPU, and nothing is quantised.
        four_bits: Whether bitsandbytes is there; None: look.

    Raises:
        SetupError: Nothing fits into the GPU; says what would be needed.
    """
    names = [name for name in LADDER[0] if getattr(spec, name) == "auto"]
    if not names:
        return spec
    if free is None:
        return spec.model_copy(update={name: LADDER[0][name] for name in names})
    if four_bits is None:
        four_bits = importlib.util.find_spec("bitsandbytes") is not None
    shape = Shape.of(spec, config)
    smallest = None
    for step in LADDER:
        if spec.full and step["quantize"]:
            continue
        chosen = spec.model_copy(update={name: step[name] for name in names})
        if not four_bits and any(step[name] != LADDER[0][name] for name in names if name in BITS):
            continue
        need = memory(chosen, shape, tokens=tokens, predicted=predicted, bf16=bf16, device="cuda")
        if need.total <= USABLE * free:
            return chosen
        smallest = need.total if smallest is None else min(smallest, need.total)
    where = f"training.options.{spec.method}"
    advice = "" if four_bits else ", or install synth_dspy[gpu] for weights in 4 bits"
    raise SetupError(
        f"This training needs {(smallest or 0) / GIB:.1f} GiB on the GPU, and {USABLE * free / GIB:.1f} GiB can be "
        f"planned with: lower {where}.max_tokens (now {spec.max_tokens}), take a smaller model{advice}."
    )


def free_memory() -> float | None:
    """Free bytes of the GPU; None if there is none."""
    import torch

    return float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None


def uses_liger(spec: TrainSpec) -> bool:
    """Whether Liger's kernels (norms, RoPE, SwiGLU) are used: where they are installed, on a GPU.

    Raises:
        SetupError: They are asked for and cannot be used here.
    """
    import torch

    installed = importlib.util.find_spec("liger_kernel") is not None
    if spec.kernels == "liger" and not (installed and torch.cuda.is_available()):
        what = "liger-kernel; `pip install liger-kernel`" if torch.cuda.is_available() else "a CUDA GPU"
        raise SetupError(f"kernels = liger needs {what}, or set kernels = none.")
    return spec.kernels != "none" and installed and torch.cuda.is_available()


def attention(spec: TrainSpec, *, bf16: bool) -> str:
    """The attention implementation: flash attention for packed text where it is installed, else PyTorch's SDPA.

    Flash attention has no masks but restarts where positions do: right for rows with one completion each, not for the
    two completions that share a prompt in preference training.
    """
    import torch

    possible = spec.method in ("sft", "cpt") and bf16 and torch.cuda.is_available()
    return "flash_attention_2" if possible and importlib.util.find_spec("flash_attn") is not None else "sdpa"
