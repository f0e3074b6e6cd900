"""A finished training as a Hugging Face folder: what a program without PEFT computes is what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.training.merged_folder import write_merged
from tests.tiny import tiny_adapter, tiny_model

# PEFT asks transformers for properties under their old names.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_(gradient|activation)_checkpointing:FutureWarning")


def test_a_chain_of_adapters_is_merged_on_demand(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = tiny_model(tmp_path / "base")
    training = tmp_path / "training"
    first = tiny_adapter(tmp_path / "first", base)
    tiny_adapter(training / "adapter", base, seed=2, layers=(1,))
    settings = {"method": "dpo", "model": str(base), "rows": "rows.jsonl", "adapters": [str(first)]}
    (training / "spec.json").write_text(json.dumps(settings))
    merged = write_merged(training, tmp_path / "merged")
    ids = torch.arange(3, 40)[None]
    model = AutoModelForCausalLM.from_pretrained(base)
    for adapter in (first, training / "adapter"):
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    with torch.no_grad():
        expected, got = model(ids).logits, AutoModelForCausalLM.from_pretrained(merged)(ids).logits
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert AutoTokenizer.from_pretrained(merged).chat_template
    with pytest.raises(SetupError, match="exists: name a new folder"):
        write_merged(training, merged)


def test_what_is_not_trained_is_not_merged(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"method": "sft", "model": "m", "rows": "rows.jsonl"}))
    with pytest.raises(SetupError, match="holds nothing trained yet"):
        write_merged(tmp_path, tmp_path / "merged")
