"""The compute precision of models in this process: the best for the CPU, unless `SYNTH_DSPY_PRECISION` is set.

bfloat16 halves the memory traffic, and CPUs that support it (AVX-512 BF16, AMX) serve and train about twice as fast;
others would emulate it. OpenVINO refuses to load a model whose key-value cache has another type than its products, so
both are always set together.
"""

from __future__ import annotations

import os
from collections.abc import Collection, MutableMapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

from synth_dspy.core.errors import SetupError

Precision = Literal["f32", "bf16"]

ENVIRONMENT = "SYNTH_DSPY_PRECISION"
INSTRUCTIONS = "ONEDNN_MAX_CPU_ISA"


def avoid_amx_on_one_core(
    environment: MutableMapping[str, str] = os.environ, cpuinfo: Path = Path("/proc/cpuinfo")
) -> None:
    """Leave AMX out where this process has one core: OpenVINO 2026.4 divides by zero there, which kills the process.

    bfloat16 is then computed by AVX-512. To be called before OpenVINO loads a model; what the user has set stays.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores != 1 or INSTRUCTIONS in environment:
        return
    with suppress(OSError):  # no Linux
        if "amx_bf16" in cpuinfo.read_text(encoding="ascii", errors="replace"):
            environment[INSTRUCTIONS] = "AVX512_CORE_BF16"


def precision() -> Precision:
    """The compute precision of this process's models on the CPU.

    Raises:
        SetupError: `SYNTH_DSPY_PRECISION` is not a precision, or this CPU does not support it.
    """
    return choose_precision(_capabilities(), os.environ.get(ENVIRONMENT))


def choose_precision(capabilities: Collection[str], override: str | None = None) -> Precision:
    """The precision for a CPU.

    Args:
        capabilities: OpenVINO's `OPTIMIZATION_CAPABILITIES` of the CPU, such as `{"FP32", "BF16", "INT8"}`.
        override: the user's choice; None or empty: bf16 if the CPU supports it, else f32.

    Raises:
        SetupError: the override is invalid, or is bf16 on a CPU without it.
    """
    if not override:
        return "bf16" if "BF16" in capabilities else "f32"
    if override not in ("f32", "bf16"):
        raise SetupError(f"{ENVIRONMENT} is {override!r}: set it to f32 or bf16, or leave it out.")
    if override == "bf16" and "BF16" not in capabilities:
        raise SetupError(
            f"{ENVIRONMENT} is bf16, but this CPU does not support bfloat16: set it to f32, or leave it out."
        )
    return override  # type: ignore[return-value]


def inference_properties(chosen: Precision) -> dict[str, str]:
    """OpenVINO's property for a compiled model without a cache."""
    return {"INFERENCE_PRECISION_HINT": chosen}


def generation_properties(chosen: Precision) -> dict[str, str]:
    """OpenVINO's properties for a pipeline that generates: products and cached keys and values in one type."""
    return {**inference_properties(chosen), "KV_CACHE_PRECISION": chosen}


@cache
def _capabilities() -> frozenset[str]:
    import openvino

    return frozenset(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
