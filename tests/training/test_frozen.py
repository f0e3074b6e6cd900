"""Frozen matrices as bfloat16 copies: the same numbers, and the same model afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from synth_dspy.training.base import load_base
from synth_dspy.training.frozen import frozen_in_bf16, is_copied
from synth_dspy.training.sequences import Group, completion_logps, pack
from synth_dspy.training.spec import TrainSpec
from synth_dspy.training.trainers import lora_config
from tests.tiny import tiny_model


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_losses_and_gradients_are_the_same_and_the_model_is_as_before(tmp_path: Path) -> None:
    from peft import get_peft_model

    base, _ = load_base(tiny_model(tmp_path / "tiny"))
    spec = TrainSpec(method="sft", model="tiny", rows=Path("rows.jsonl"))
    base.requires_grad_(False)
    model = get_peft_model(base, lora_config(spec, base))
    head, embedding = base.get_output_embeddings(), base.get_input_embeddings()
    tied, before = head.weight is embedding.weight, [id(each) for each in model.parameters()]
    batch = pack([Group([5, 6, 7, 8], [[9, 10, 11]])])

    def learn() -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = -completion_logps(model, batch).sum()
        loss.backward()
        return loss.item(), [each.grad.clone() for each in model.parameters() if each.grad is not None]

    plain = learn()
    with frozen_in_bf16(model, spec, bf16=True):
        assert head.weight.dtype == torch.bfloat16
        assert embedding.weight.dtype == torch.float32
        copied = learn()
    assert copied[0] == plain[0]
    assert len(copied[1]) == len(plain[1]) > 0
    assert all(torch.equal(one, other) for one, other in zip(copied[1], plain[1], strict=True))
    assert [id(each) for each in model.parameters()] == before
    assert (head.weight is embedding.weight) == tied
    with frozen_in_bf16(model, spec, bf16=False):
        assert head.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("changed", "copied"),
    [({}, True), ({"gradient_checkpointing": True}, False), ({"lora": "none"}, False), ({"method": "grpo"}, False)],
)
def test_what_saves_memory_or_samples_keeps_no_copies(changed: dict[str, object], copied: bool) -> None:
    spec = TrainSpec.model_validate({"method": "sft", "model": "tiny", "rows": "rows.jsonl", **changed})
    assert is_copied(spec, bf16=True, device="cpu") == copied
    assert not is_copied(spec, bf16=False, device="cpu")
    assert not is_copied(spec, bf16=True, device="cuda")
