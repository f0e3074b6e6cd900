"""A Hugging Face folder, served: the same tokens and the same greedy reply as transformers gives for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synth_dspy.models.embedded.generation import Sampling, ServerSettings
from synth_dspy.models.embedded.server import ModelServer
from synth_dspy.models.weights.gguf import readable

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = "The supplier shall deliver 1234 goods within 30 days; payment is due né à Paris. "


def _save(folder: Path, family: str) -> Any:
    """A small random model of `family` with a tokeniser trained on `TEXT`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    shape = {
        "vocab_size": len(wrapped),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": family == "llama",
        "initializer_range": 0.3,  # large, so that the best token leads clearly
    }
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**shape)) if family == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    if family == "qwen2":
        model = model.to(torch.bfloat16)  # the type that numpy lacks
    model.save_pretrained(folder)
    return model.float().eval(), wrapped


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_served_folder_agrees_with_transformers(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path / "home"))
    import torch

    folder = tmp_path / family
    model, tokenizer = _save(folder, family)
    server = ModelServer(readable(folder), settings=ServerSettings(kv_cache_gib=1))
    try:
        messages = [{"role": "user", "content": TEXT}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert server.render(messages) == prompt
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        assert server.token_ids(prompt) == ids
        with torch.no_grad():
            expected = model.generate(
                torch.tensor([ids]), max_new_tokens=6, do_sample=False, eos_token_id=2, pad_token_id=2
            )[0, len(ids) :]
        reply = server.submit(prompt, Sampling(max_tokens=6)).result(timeout=60)
        # Bytes that are no whole character: one side shows them, the other leaves them out.
        assert reply.text == tokenizer.decode(expected, skip_special_tokens=True).replace("\ufffd", "")
        assert reply.output_tokens == 6
    finally:
        server.close()
