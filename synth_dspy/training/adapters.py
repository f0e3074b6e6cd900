"""LoRA adapters in PEFT's format: a folder with adapter_config.json and adapter_model.safetensors.

Shared by merging into a torch model and into a GGUF file: which matrices an adapter changes, by how much, and whether
it belongs to this base. `record_base` stores in the adapter's folder a hash of the base's shape and norms, which is the
same for every quantisation and precision of a model and differs between models.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.core.validation import describe_error
from synth_dspy.models.weights.trained import ADAPTER_CONFIG

BASE = "base.json"
CONFIG = ADAPTER_CONFIG
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(re.escape(_PREFIX) + r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MAGNITUDE = re.compile(re.escape(_PREFIX) + r"(?P<module>.+)\.lora_magnitude_vector(\.weight)?")
# LoRA variants that change a weight by more than B·A, or change more than weights.
_NOT_PLAIN = ("modules_to_save", "lora_bias", "layer_replication", "target_parameters", "fan_in_fan_out")


def _module_pattern(pattern: str) -> str:
    """Validate a PEFT pattern of module names. Repetitions are refused: matching them could take for ever."""
    if re.fullmatch(r"[\w.^$|\\-]*", pattern) is None:
        raise ValueError(f"{pattern[:60]!r} is not a module name")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern[:60]!r} is not a regular expression ({error})") from error
    return pattern


class _Config(BaseModel):
    """The fields of adapter_config.json that are used here; PEFT writes more."""

    model_config = ConfigDict(allow_inf_nan=False)

    lora_alpha: float
    alpha_pattern: dict[Annotated[str, AfterValidator(_module_pattern)], float] | None = None
    layers_to_transform: list[int] | int | None = None


def record_base(adapter: Path, model: Any) -> None:
    """Record in an adapter's folder which base it was trained on. `model` is the base, wrapped by PEFT or not."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    (adapter / BASE).write_text(json.dumps({"fingerprint": identity_of(base)}) + "\n", encoding="utf-8")


def identity(shape: Sequence[int], norms: Iterable[tuple[str, Any]]) -> str:
    """A hash of a base model, sixteen hexadecimal digits, which does not depend on its quantisation.

    Args:
        shape: (vocabulary, hidden size, layers).
        norms: GGUF's name and the float32 values of every layer's attention and feed-forward norm. They are hashed as
            bfloat16, since a model may be loaded in that type.
    """
    import numpy as np

    digest = hashlib.sha256(json.dumps([int(n) for n in shape]).encode())
    for name, values in sorted(norms, key=lambda pair: pair[0]):
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16  # to the nearest, ties to even
        digest.update(name.encode() + rounded.astype("<u2").tobytes())
    return digest.hexdigest()[:16]


def read_adapter_config(adapter: Path) -> dict[str, Any]:
    """Read an adapter's adapter_config.json, and check that it is a plain LoRA adapter with its weights.

    Raises:
        ArmError: It is not one.
    """
    try:
        config = read_json_object(adapter / CONFIG)
        _Config.model_validate(config)
    except SetupError as error:
        raise ArmError(f"{adapter} is not a PEFT adapter: {error}") from error
    except ValidationError as error:
        raise ArmError(f"In {adapter / CONFIG}, {describe_error(error, _Config)}") from error
    if not (adapter / WEIGHTS).is_file():
        raise ArmError(f"{adapter} has no adapter_model.safetensors; weights in other formats are not loaded.")
    unsupported = [key for key in _NOT_PLAIN if config.get(key)]
    if config.get("peft_type") != "LORA" or unsupported or config.get("bias", "none") != "none":
        reason = ", ".join(unsupported) or f"{config.get('peft_type')} with bias {config.get('bias')}"
        raise ArmError(f"{adapter} is not a plain LoRA adapter ({reason}), which is the only kind that can be merged.")
    return config


def check_adapter(
    adapter: Path,
    matrices: Mapping[str, tuple[Any, Any]],
    shapes: Mapping[str, tuple[int, ...]],
    fingerprint: str,
) -> None:
    """Make sure that an adapter belongs to a base.

    Args:
        adapter: PEFT's folder.
        matrices: Its matrices, from `modules`.
        shapes: Shapes of the base's parameters, (rows, columns), by Hugging Face's names.
        fingerprint: The base's `identity`.

    Raises:
        ArmError: It was trained on another base: a recorded fingerprint or a shape differs.
    """
    config = read_adapter_config(adapter)
    advice = (
        f"it was trained on {config.get('base_model_name_or_path') or 'another model'}; train it again on this base, "
        "or name its own"
    )
    for module, (a, b) in matrices.items():
        name = f"{module}.weight"
        if name not in shapes:
            raise ArmError(f"The adapter {adapter} is for another base: this one has no {name}; {advice}.")
        if (len(b), a.shape[1]) != shapes[name]:
            rows, columns = shapes[name]
            raise ArmError(
                f"The adapter {adapter} is for another base: {name} is {rows} x {columns} here, and "
                f"{len(b)} x {a.shape[1]} in the adapter; {advice}."
            )
    record = adapter / BASE
    if record.is_file() and read_json_object(record).get("fingerprint") != fingerprint:
        raise ArmError(f"The adapter {adapter} is for another base of the same shape; {advice}.")


def modules(adapter: Path) -> dict[str, tuple[Any, Any]]:
    """The matrices A [rank, columns] and B [rows, rank] of an adapter by module, as float32 arrays.

    Raises:
        ArmError: It holds something other than pairs of LoRA matrices.
    """
    import numpy as np

    from synth_dspy.models.weights.hf_folder import tensors_of

    pairs: dict[str, dict[str, Any]] = {}
    for key, values in tensors_of(adapter / WEIGHTS):
        if _MAGNITUDE.fullmatch(key):
            continue
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ArmError(
                f"The adapter {adapter} is damaged: {key} is not a matrix of finite numbers; train it again."
            )
        match = _KEY.fullmatch(key)
        if match is None:
            raise ArmError(f"{adapter} is not a plain LoRA adapter: it holds {key}.")
        pairs.setdefault(match["module"], {})[match["side"]] = values
    for module, pair in pairs.items():
        if len(pair) < 2:
            raise ArmError(f"The adapter {adapter} is incomplete: {module} lacks one of its two matrices.")
        if not len(pair["A"]) or len(pair["A"]) != pair["B"].shape[1]:
            raise ArmError(f"The adapter {adapter} is damaged: the two matrices of {module} differ in rank.")
    return {module: (pair["A"], pair["B"]) for module, pair in sorted(pairs.items())}


def plain_modules(adapter: Path) -> dict[str, tuple[Any, Any]]:
    """`modules` of an adapter that is to be joined with others.

    Raises:
        ArmError: It is of DoRA, whose change is more than B·A, or damaged.
    """
    if read_adapter_config(adapter).get("use_dora"):
        raise ArmError(
            f"{adapter} is a DoRA adapter, which cannot be put into one adapter with others: train without lora.dora."
        )
    return modules(adapter)


def magnitudes(adapter: Path) -> dict[str, Any]:
    """A DoRA adapter's magnitude of every row, shape (rows,), by module; empty for a plain LoRA.

    Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", arXiv:2402.09353.

    Raises:
        ArmError: its configuration and its weights disagree.
    """
    import numpy as np

    from synth_dspy.models.weights.hf_folder import tensors_of

    matched = ((_MAGNITUDE.fullmatch(key), values) for key, values in tensors_of(adapter / WEIGHTS))
    by_module = {match["module"]: values.reshape(-1) for match, values in matched if match is not None}
    if bool(read_adapter_config(adapter).get("use_dora")) != bool(by_module):
        raise ArmError(f"The adapter {adapter} is damaged: only one of its configuration and its weights is of DoRA.")
    if not all(np.isfinite(values).all() for values in by_module.values()):
        raise ArmError(f"The adapter {adapter} is damaged: a magnitude is not a finite number; train it again.")
    return by_module


def adapted(weights: Any, change: Any, magnitude: Any) -> Any:
    """Weights with an adapter merged; NumPy arrays or torch tensors.

    Args:
        weights: (rows, columns).
        change: B·A·scale, of the same shape.
        magnitude: of every row for DoRA, shape (rows,); None for a plain LoRA.
    """
    merged = weights + change
    if magnitude is None:
        return merged
    return merged * (magnitude / (merged * merged).sum(1) ** 0.5).reshape(-1, 1)


def identity_of(model: Any) -> str:
    """`identity` of a torch model of the Llama or Qwen2 family; for other families, of the shape alone."""
    config = model.config
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    norms = []
    for name, value in model.named_parameters():
        parts = name.split(".")
        if len(parts) > 3 and parts[-1] == "weight" and parts[-2] in names:
            gguf_name = f"blk.{parts[-3]}.{names[parts[-2]]}.weight"
            norms.append((gguf_name, value.detach().float().cpu().numpy()))
    return identity((config.vocab_size, config.hidden_size, config.num_hidden_layers), norms)


def scaling(config: dict[str, Any], module: str, rank: int) -> float:
    """The factor of a module's B·A: alpha / rank, or alpha / sqrt(rank) for a rank-stabilised LoRA.

    Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", arXiv:2312.03732.
    """
    alpha = float(config["lora_alpha"])
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
