"""Converts a Hugging Face model folder to a GGUF file for the model server.

Supports the families of OpenVINO's GGUF reader: Llama (including SmolLM2) and Qwen2, with byte-level BPE tokenisers.
Weights are written as float16. torch is not needed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import parse_json, read_json_object

_ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}
# Parts of the pre-tokenisation patterns in tokenizer.json, which identify GGUF's names.
_LLAMA3_DIGITS, _QWEN2_DIGITS = r"\p{N}{1,3}", r"\p{N}"
_LARGEST = 10_000_000  # upper bound for all sizes, such as the vocabulary's
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # GGUF's token types


def write_gguf(folder: Path, target: Path) -> None:
    """Convert `folder` (config.json, tokenizer.json, *.safetensors) to the GGUF file `target`.

    Raises:
        SetupError: A file is missing, or the model is of a family that cannot be served.
    """
    import gguf

    config, tokenizer = (_read(folder / name) for name in ("config.json", "tokenizer.json"))
    stated = config.get("architectures")
    name = str(stated[0]) if isinstance(stated, list) and stated else "model of no stated kind"
    if name not in _ARCHITECTURES:
        raise SetupError(
            f"{folder} holds a {name}; folders of {' and '.join(_ARCHITECTURES)} can be served, others as a GGUF file"
        )
    architecture = _ARCHITECTURES[name]
    writer = gguf.GGUFWriter(target, architecture)
    try:
        _check_sizes(config)
        _add_parameters(writer, config, folder.name)
        _add_tokenizer(writer, config, tokenizer, folder)
        _add_tensors(writer, architecture, config, folder)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error) as error:
        raise SetupError(
            f"{folder} is not a model folder as Hugging Face writes them ({type(error).__name__}: {error}); fetch it "
            "again"
        ) from error
    writer.write_tensors_to_file()
    writer.close()


def obstacle(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Why a model folder cannot be converted, in a few words; None if it can."""
    stated = config.get("architectures")
    name = str(stated[0]) if isinstance(stated, list) and stated else "a model of no stated kind"
    if name not in _ARCHITECTURES:
        return name
    if (kind := _rope_kind(config)) != "default":
        return f"{kind} rotary embeddings"
    if config.get("use_sliding_window") or (config.get("attention_bias") and name == "LlamaForCausalLM"):
        return "attention of another form"
    file = folder / "tokenizer.json"
    tokenizer = _read(file).get("model", {}).get("type") if file.is_file() else None
    if tokenizer != "BPE":
        return f"a tokenizer of type {tokenizer}" if tokenizer else "no tokenizer.json"
    if _template(folder) is None:
        return "no chat template"
    return None


def _rope_kind(config: Mapping[str, Any]) -> str:
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or {}
    return str(rope.get("rope_type") or scaling.get("rope_type") or scaling.get("type") or "default")


def _template(folder: Path) -> str | None:
    file, settings = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if file.exists():
        return file.read_text("utf-8")
    template = _read(settings).get("chat_template") if settings.exists() else None
    return template if isinstance(template, str) else None


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path, "The model's", "name a model folder, or fetch it again")


def _check_sizes(config: Mapping[str, Any]) -> None:
    """Refuse impossible sizes before memory is allocated for them."""
    for key in ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size"):
        if not 0 < int(config[key]) < _LARGEST:
            raise ValueError(f"{key} is {config[key]}")


def _add_parameters(writer: Any, config: Mapping[str, Any], name: str) -> None:
    import gguf

    heads = int(config["num_attention_heads"])
    rope = config.get("rope_parameters") or {}
    if (kind := _rope_kind(config)) != "default":
        raise SetupError(f"{name} uses {kind} rotary embeddings, which cannot be converted")
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0))
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _add_tokenizer(writer: Any, config: Mapping[str, Any], tokenizer: Mapping[str, Any], folder: Path) -> None:
    model = tokenizer.get("model", {})
    if model.get("type") != "BPE":
        raise SetupError(f"{folder} has a {model.get('type')} tokeniser; only byte-level BPE can be converted")
    tokens = [f"[PAD{index}]" for index in range(int(config["vocab_size"]))]
    kinds = [_USER_DEFINED] * len(tokens)  # rows of the embedding that no token uses
    for token, index in model["vocab"].items():
        tokens[index], kinds[index] = token, _NORMAL
    for added in tokenizer.get("added_tokens", ()):
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_add_bos_token(False)  # chat templates write their own
    settings_file = folder / "tokenizer_config.json"
    settings = _read(settings_file) if settings_file.exists() else {}
    ids = {token: index for index, token in enumerate(tokens)}
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
        ("unk", writer.add_unk_token_id),
    ):
        token = settings.get(f"{role}_token")
        content = token.get("content") if isinstance(token, dict) else token
        if content in ids:
            add(ids[content])
    template = _template(folder)
    if template is None:
        raise SetupError(f"{folder} has no chat template; an instruction-tuned model is needed")
    writer.add_chat_template(template)


def _pre_tokenizer(tokenizer: Mapping[str, Any]) -> str:
    """GGUF's name of the pre-tokenisation."""
    stated = json.dumps(tokenizer.get("pre_tokenizer"))
    rule = json.loads(stated) or {}
    steps = rule.get("pretokenizers", [rule])
    if any(step.get("type") == "Digits" for step in steps):
        return "smollm"
    patterns = " ".join(str(step.get("pattern", {}).get("Regex", "")) for step in steps)
    if _LLAMA3_DIGITS in patterns:
        return "llama-bpe"
    return "qwen2" if _QWEN2_DIGITS in patterns else "gpt-2"


def _add_tensors(writer: Any, architecture: str, config: Mapping[str, Any], folder: Path) -> None:
    import gguf
    import numpy as np

    kind = gguf.MODEL_ARCH.LLAMA if architecture == "llama" else gguf.MODEL_ARCH.QWEN2
    names = gguf.get_tensor_name_map(kind, int(config["num_hidden_layers"]))
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    for name, data in _tensors(folder):
        if name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.get("tie_word_embeddings")):
            continue
        new = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new is None:
            raise SetupError(f"{folder} has a tensor {name} that a {architecture} model does not have")
        if architecture == "llama" and ".self_attn.q_proj." in name:
            data = interleaved(data, heads)
        elif architecture == "llama" and ".self_attn.k_proj." in name:
            data = interleaved(data, kv_heads)
        # Norms and biases are small and stay exact.
        writer.add_tensor(new, data.astype(np.float32 if data.ndim == 1 else np.float16))


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    """Every tensor of the folder's safetensors files, as float32."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SetupError(f"{folder} has no .safetensors file; weights in other formats are not loaded")
    for path in files:
        yield from tensors_of(path)


def tensors_of(path: Path) -> Iterator[tuple[str, Any]]:
    """The tensors of a safetensors file by name, as float32 arrays, without torch.

    Raises:
        SetupError: it cannot be read, or is damaged.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:  # validates the header
            header, start = _safetensors_header(path)
            for name in file.keys():  # noqa: SIM118  (not a mapping)
                if header[name]["dtype"] != "BF16":
                    yield name, file.get_tensor(name).astype(np.float32)
                    continue
                # numpy has no bfloat16: it is the upper half of a float32.
                first, last = header[name]["data_offsets"]
                raw = np.fromfile(path, np.uint16, (last - first) // 2, offset=start + first)
                yield name, (raw.astype(np.uint32) << 16).view(np.float32).reshape(header[name]["shape"])
    except (SafetensorError, OSError, ValueError, TypeError) as error:  # TypeError: a type that numpy lacks
        raise SetupError(f"{path} is not a complete safetensors file ({error}); copy or fetch it again") from error


def _safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a validated file, and the offset of its data."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return parse_json(file.read(size)), 8 + size


def interleaved(data: Any, heads: int) -> Any:
    """Permute the rows of a query or key projection for llama.cpp's rotary embedding."""
    rows = data.shape[0]
    return data.reshape(heads, 2, rows // heads // 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)


def deinterleaved(data: Any, heads: int) -> Any:
    """The inverse of `interleaved`."""
    rows = data.shape[0]
    return data.reshape(heads, rows // heads // 2, 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
