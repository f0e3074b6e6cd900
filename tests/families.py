"""Tiny random models of the real configuration classes of many families, with one tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import tiny_model

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""Llama 3.1's; 3.2's has a factor of 32."""
_NEAR = {"sliding_window": 24}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-3": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}),
    "llama-3.1": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama-3.2": ("Llama", {"rope_parameters": {**LLAMA3_ROPE, "factor": 32.0}, "tie_word_embeddings": True}),
    "qwen2.5": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "mistral": ("Mistral", _NEAR),
    "phi-2": ("Phi", {"partial_rotary_factor": 0.5}),
    "phi-3": ("Phi3", {}),
    "gemma-2": ("Gemma2", {**_NEAR, "head_dim": 16, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}),
    "gemma-3": ("Gemma3Text", {**_NEAR, "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]}),
    "smollm2": ("Llama", {"tie_word_embeddings": True}),
    "smollm3": ("SmolLM3", {"no_rope_layers": [1, 0]}),
}


def family_model(folder: Path, name: str, *, window: int = 1024, template: bool = True) -> Path:
    """Write a random model of two layers of a family to `folder`.

    Args:
        folder: where to.
        name: a key of `FAMILIES`.
        window: its context window, in tokens.
        template: whether it has a chat template.
    """
    import torch
    import transformers

    kind, own = FAMILIES[name]
    tiny_model(folder)  # the tokenizer
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if not template:
        tokenizer.chat_template = None
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        tokenizer.save_pretrained(folder)
    config = getattr(transformers, f"{kind}Config")(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": window,
            "initializer_range": 0.2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            **own,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    return folder
