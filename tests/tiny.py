"""A tiny random model that is everything a real one is: a Hugging Face folder with a tokeniser and a chat template.

Training it, merging an adapter into it and serving it take seconds. What it says makes no sense.
"""

from __future__ import annotations

import json
from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXT = (
    "You are a helpful assistant. Answer the question from the passages of the contract. The supplier shall deliver "
    "the goods within thirty days; payment is due 60 days after the invoice. This agreement between the buyer and the "
    "seller is made on the first day of January 2021 and is governed by the laws of England. Who is the principal? "
    "When does the contract take effect?\n\n1. Term\n\n2. What is the notice period for termination? user assistant "
)


def tiny_model(folder: Path, *, seed: int = 0, family: str = "llama", hidden: int = 64) -> Path:
    """Write a random model of two layers to `folder`; the same bytes for the same arguments.

    Args:
        folder: Made if need be.
        seed: Of the weights; the tokeniser is always the same.
        family: "llama" or "qwen2".
        hidden: Width; another width makes a base that adapters do not fit.

    Returns:
        `folder`.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
    )
    wrapped.chat_template = TEMPLATE
    shape = {
        "vocab_size": len(wrapped),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": family == "llama",
        "initializer_range": 0.2,  # large, so that the best token leads clearly
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**shape)) if family == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    model.save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tiny_adapter(
    folder: Path,
    base: Path,
    *,
    seed: int = 1,
    rank: int = 4,
    targets: tuple[str, ...] = PROJECTIONS,
    layers: tuple[int, ...] | None = None,
    std: float = 0.2,
    **config: object,
) -> Path:
    """Write a LoRA adapter with random matrices for a model folder, as PEFT would have.

    Args:
        folder: Made if need be.
        base: The model folder.
        seed: Of the matrices.
        rank: Of the matrices.
        targets: The projections it changes.
        layers: The layers it changes; None: all.
        std: Of the entries of B: how much it changes.
        config: More of adapter_config.json.

    Returns:
        `folder`.
    """
    import numpy as np
    from safetensors import safe_open
    from safetensors.numpy import save_file

    rng = np.random.default_rng(seed)
    matrices = {}
    with safe_open(base / "model.safetensors", framework="np") as file:
        for name in sorted(file.keys()):
            module, parts = name.removesuffix(".weight"), name.split(".")
            if (
                parts[-1] != "weight"
                or parts[-2] not in targets
                or (layers is not None and int(parts[2]) not in layers)
            ):
                continue
            rows, columns = file.get_slice(name).get_shape()
            for side, shape, scale in (("A", (rank, columns), columns**-0.5), ("B", (rows, rank), std)):
                values = rng.normal(size=shape, scale=scale).astype(np.float32)
                matrices[f"base_model.model.{module}.lora_{side}.weight"] = values
    folder.mkdir(parents=True, exist_ok=True)
    save_file(matrices, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "bias": "none"}
    settings |= {"r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets), "inference_mode": True}
    if layers is not None:
        settings["layers_to_transform"] = list(layers)
    (folder / "adapter_config.json").write_text(json.dumps({**settings, **config}))
    return folder
