"""Converts a GGUF file to a Hugging Face folder for training: the inverse of `synth_dspy.models.weights.hf_folder`.

transformers reads GGUF files too. It is not used because it parses the vocabulary three times (half a minute for a
small model), and because it pre-tokenises by GPT-2's rule whatever `tokenizer.ggml.pre` says: "\\n\\n1." became other
tokens in training than in llama.cpp and in the embedded server.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Pre-tokenisation patterns by their GGUF names; None: GPT-2's, which ByteLevel has built in.
_SPLITS = {"gpt-2": None, "smollm": None, "qwen2": _WORDS % r"\p{N}", "llama-bpe": _WORDS % r"\p{N}{1,3}"}
_CONTROL, _USER_DEFINED = 3, 4  # GGUF's token types


def write_folder(source: Path, folder: Path) -> None:
    """Write config.json, model.safetensors (matrices as float16, the rest as float32) and the tokeniser.

    Raises:
        SetupError: The model's family or its tokeniser cannot be converted.
    """
    from synth_dspy.models.weights.gguf import open_gguf

    reader = open_gguf(source)
    try:
        _write(reader, source, folder)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise SetupError(
            f"{source} lacks something that training needs ({type(error).__name__}: {error}); name the model's "
            "Hugging Face folder"
        ) from error


def _write(reader: Any, source: Path, folder: Path) -> None:
    metadata = {key: field.contents() for key, field in reader.fields.items()}
    architecture = metadata["general.architecture"]
    if architecture not in _ARCHITECTURES or any("rope" in tensor.name for tensor in reader.tensors):
        what = "scaled rotary embeddings" if architecture in _ARCHITECTURES else f"a {architecture} model"
        raise SetupError(
            f"{source} holds {what}, which cannot be trained from a GGUF file; name the model's Hugging Face folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(metadata, source)
    tokenizer.save_pretrained(folder)
    config = _config(metadata, reader.tensors)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    _save_tensors(reader, architecture, config, folder)


def _config(metadata: Mapping[str, Any], tensors: Any) -> dict[str, Any]:
    architecture = metadata["general.architecture"]
    own = {key.removeprefix(f"{architecture}."): value for key, value in metadata.items()}
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    heads = int(own["attention.head_count"])
    config = {
        "architectures": [_ARCHITECTURES[architecture]],
        "model_type": architecture,
        "vocab_size": int(shapes["token_embd.weight"][1]),
        "hidden_size": own["embedding_length"],
        "intermediate_size": own["feed_forward_length"],
        "num_hidden_layers": own["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": own.get("attention.head_count_kv", heads),
        "head_dim": own.get("attention.key_length", own["embedding_length"] // heads),
        "max_position_embeddings": own["context_length"],
        "rms_norm_eps": own["attention.layer_norm_rms_epsilon"],
        "rope_parameters": {"rope_type": "default", "rope_theta": own.get("rope.freq_base", 10000.0)},
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in shapes,
        "dtype": "float16",
    }
    for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        config[f"{role}_token_id"] = metadata.get(f"tokenizer.ggml.{key}_token_id")
    return config


def _tokenizer(metadata: Mapping[str, Any], source: Path) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    split = metadata.get("tokenizer.ggml.pre", "gpt-2")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or split not in _SPLITS:
        raise SetupError(
            f"{source} has a tokeniser ({metadata.get('tokenizer.ggml.model')}, {split}) that cannot be converted for "
            "training; name the model's Hugging Face folder"
        )
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # Llama 3 keeps a word that is a token, whether or not the merges lead to it.
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=split == "llama-bpe"))
    pattern = _SPLITS[split]
    first: Any = pre_tokenizers.Digits(individual_digits=True) if split == "smollm" else None
    if pattern is not None:
        first = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
    tokenizer.pre_tokenizer = byte_level if first is None else pre_tokenizers.Sequence([first, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    for kind in (_CONTROL, _USER_DEFINED):
        of_kind = [t for t, k in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True) if k == kind]
        special = kind == _CONTROL
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([AddedToken(token, special=special, normalized=False) for token in of_kind])
    roles = {}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if index is not None:
            roles[f"{role}_token"] = tokens[index]
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **roles)
    wrapped.chat_template = metadata.get("tokenizer.chat_template")
    return wrapped


def _save_tensors(reader: Any, architecture: str, config: Mapping[str, Any], folder: Path) -> None:
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    from synth_dspy.models.weights.gguf import values_of
    from synth_dspy.models.weights.hf_folder import deinterleaved

    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    names = dict(tensor_names(architecture, int(config["num_hidden_layers"])))
    tensors = {}
    for tensor in reader.tensors:
        name = names[tensor.name]
        values = values_of(tensor)
        count = heads.get(name.split(".")[-2])
        if architecture == "llama" and count:
            values = deinterleaved(values, int(count))
        tensors[name] = np.ascontiguousarray(values, np.float16 if values.ndim > 1 else np.float32)
    try:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def tensor_names(architecture: str, layers: int) -> Iterator[tuple[str, str]]:
    """GGUF's and Hugging Face's name of every tensor that a model may have."""
    import gguf

    of = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), layers)
    modules = ["model.embed_tokens", "model.norm", "lm_head"]
    for layer in range(layers):
        parts = [f"self_attn.{p}_proj" for p in "qkvo"] + [f"mlp.{p}_proj" for p in ("gate", "up", "down")]
        parts += ["input_layernorm", "post_attention_layernorm"]
        modules += [f"model.layers.{layer}.{part}" for part in parts]
    for module in modules:
        for suffix in (".weight", ".bias"):
            yield str(of.get_name(module + suffix, try_suffixes=(suffix,))), module + suffix
