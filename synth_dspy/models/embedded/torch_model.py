"""Models in torch for serving: a base, kept in memory once, and any number of adapters on it."""

from __future__ import annotations

import copy
import json
import threading
import weakref
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.models.weights.trained import ADAPTER_CONFIG, SPEC

_BASES: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Loaded bases, while a pipeline uses them."""
_LOCK = threading.Lock()
_GROWING_ROPE = frozenset({"dynamic", "longrope"})
"""Rotary embeddings whose frequencies depend on the longest sequence of a batch."""


def base_of(path: Path) -> tuple[Path, Path | None]:
    """The base's folder of a model, and its adapter's if it has one.

    Raises:
        SetupError: the adapter's base is not here, or not a Hugging Face folder.
    """
    from synth_dspy.models.weights.registry import resolve

    config = path / ADAPTER_CONFIG
    if not config.is_file():
        return path, None
    spec = path.parent / SPEC
    if spec.is_file():  # an adapter trained here
        named = str(read_json_object(spec)["model"])
        base = resolve(spec.parent / named if (spec.parent / named).exists() else named)
    else:
        named = str(read_json_object(config).get("base_model_name_or_path") or "")
        candidates = [each for each in (path / named, Path(named).expanduser()) if named and each.is_dir()]
        if not candidates:
            raise SetupError(
                f"The base of the adapter {path} is {named or 'not stated'}, which is not a folder here: correct "
                f"base_model_name_or_path in its {ADAPTER_CONFIG}"
            )
        base = candidates[0]
    if not (base / "config.json").is_file():
        raise SetupError(f"{path} is an adapter on {base}, and adapters are served on Hugging Face folders only")
    return base, path


def served_config(folder: Path) -> Any:
    """The configuration of a causal language model that transformers serves.

    Raises:
        SetupError: it is none; says why.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # any kind, from a configuration that is not one
        why = " ".join(str(error).split())[:200]
        raise SetupError(f"{folder} is of a kind that the installed transformers does not read: {why}") from error
    names = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, ())
    names = (names,) if isinstance(names, str) else names
    stated = (config.architectures or ["a model of no stated kind"])[0]
    if stated not in names or not stated.endswith(("ForCausalLM", "LMHeadModel")):
        raise SetupError(f"{folder} holds {stated}, which is not a causal language model of text alone")
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or not getattr(config, "num_attention_heads", None):
        raise SetupError(
            f"{folder} holds {stated}, whose layers are not all attention ({', '.join(sorted(kinds)) or 'none is'}); "
            "such models are not served"
        )
    return config


def window(config: Any) -> int:
    """The context window, in tokens.

    Rotary embeddings that change with the longest sequence of a batch are used within their first range only: beyond, a
    long request would change its neighbours' replies.
    """
    length = int(config.max_position_embeddings)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in _GROWING_ROPE:
        first = rope.get("original_max_position_embeddings") or getattr(
            config, "original_max_position_embeddings", None
        )
        return min(length, int(first or length))
    return length


def attention(config: Any) -> str:
    """The attention that computes what the model was trained with: SDPA knows no soft cap of the scores."""
    return "eager" if getattr(config, "attn_logit_softcapping", None) else "sdpa"


def place() -> tuple[str, str]:
    """The device, and the type of weights and products there, as torch names it."""
    import torch

    if torch.cuda.is_available():
        return "cuda", "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    from synth_dspy.models.embedded.precision import precision

    return "cpu", "bfloat16" if precision() == "bf16" else "float32"


def load_model(path: Path) -> tuple[Any, Any]:
    """A model to generate with.

    Args:
        path: a Hugging Face folder, or a PEFT adapter's, which is applied to its base and not merged.

    Returns:
        (model, base): the model has modules of its own, but its base's weights are `base`'s, which must be kept as long
        as others are to share them.

    Raises:
        SetupError: it cannot be loaded.
    """
    from safetensors import safe_open

    folder, adapter = base_of(path)
    with _LOCK:
        key = f"{folder.resolve()} {place()}"
        base = _BASES.get(key)
        if base is None:
            base = _BASES[key] = _load(folder)
    # Parameters are shared, modules are not: so adapters do not meet.
    model = copy.deepcopy(base, {id(parameter): parameter for parameter in base.parameters()})
    if adapter is not None:
        try:
            model.load_adapter(str(adapter), adapter_name="served")
            with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
                stated = sum(1 for name in file.keys() if ".lora_A." in name)  # noqa: SIM118  (not a mapping)
        except Exception as error:  # PEFT's and safetensors' many kinds
            why = " ".join(str(error).split())[:300]
            raise SetupError(f"The adapter {adapter} does not fit its base {folder}: {why}") from error
        applied = sum(1 for module in model.modules() if hasattr(module, "lora_A") and "served" in module.lora_A)
        if applied != stated:
            raise SetupError(
                f"The adapter {adapter} does not fit its base {folder}: {applied} of its {stated} matrices are there"
            )
    return model.eval(), base


def _load(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    config = served_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise SetupError(f"{folder} has no .safetensors file; weights in other formats are not loaded")
    logging.disable_progress_bar()
    device, dtype = place()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation=attention(config),
            local_files_only=True,
            use_safetensors=True,
            **({"device_map": {"": 0}} if device == "cuda" else {}),
        )
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise SetupError(f"{folder} cannot be loaded for serving: {why}") from error
    return model.eval().requires_grad_(False)


def stop_ids(folder: Path, tokenizer: Any, config: Any) -> set[int]:
    """The tokens that end a reply: the tokenizer's, and those that the model's generation settings name."""
    ids: set[int] = {tokenizer.eos_token_id} - {None}
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for named in (settings.get("eos_token_id"), getattr(config, "eos_token_id", None)):
        ids |= set(named if isinstance(named, list) else [named]) - {None}
    return ids
