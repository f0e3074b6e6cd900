"""What a training takes, before it starts: the formula against what autograd keeps, and the savers that are chosen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.training.data import bins
from synth_dspy.training.large import gpu_settings
from synth_dspy.training.memory import GIB, Shape, memory
from synth_dspy.training.savers import resolve_savers
from synth_dspy.training.sequences import Group
from synth_dspy.training.spec import TrainSpec, check_training_options

# transformers and PEFT ask for properties under their old names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is_activation_checkpointing:FutureWarning"),
]
LLAMA_3_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


def spec(**settings: Any) -> TrainSpec:
    return TrainSpec(method="sft", model="none", rows=Path("none"), **settings)


def kept_by_autograd(config: dict[str, Any], tokens: int, *, weights: str, bf16: bool) -> float:
    """Bytes per layer that the forward pass keeps for the backward one, counted on tensors without storage."""
    import torch
    from peft import get_peft_model
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers import AutoModelForCausalLM, LlamaConfig

    from synth_dspy.training.sequences import completion_logps, pack
    from synth_dspy.training.trainers import lora_config

    def kept(layers: int) -> int:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                LlamaConfig(**{**config, "num_hidden_layers": layers}), dtype=getattr(torch, weights)
            )
            model = get_peft_model(model, lora_config(spec(), model)).train()
        found: dict[int, int] = {}
        with FakeTensorMode(allow_non_fake_inputs=True):
            for module in model.modules():
                for values in (module._parameters, module._buffers):
                    for name, value in values.items():
                        if value is None:
                            continue
                        empty = torch.empty(value.shape, dtype=value.dtype, device="cpu")
                        trains = value.requires_grad
                        values[name] = torch.nn.Parameter(empty, trains) if values is module._parameters else empty
            own = {weight.untyped_storage()._cdata for weight in model.parameters()}

            def note(tensor: Any) -> Any:
                storage = tensor.untyped_storage()
                if storage._cdata not in own:
                    found[storage._cdata] = storage.nbytes()
                return tensor

            packed = pack([Group(range(tokens - 64), [range(65)])])
            with (
                torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
                torch.autocast("cpu", torch.bfloat16, enabled=bf16),
            ):
                loss = completion_logps(model, packed).sum()
            del loss
        return sum(found.values())

    return kept(2) - kept(1)


@pytest.mark.parametrize(("weights", "bf16"), [("bfloat16", True), ("float32", False)])
def test_activations_are_those_that_autograd_keeps(weights: str, bf16: bool) -> None:
    shape = Shape.of(spec(), SimpleNamespace(**LLAMA_3_8B))
    formula = memory(spec(), shape, tokens=1024, predicted=65, bf16=bf16, device="cuda").activations / 32
    assert formula == pytest.approx(kept_by_autograd(LLAMA_3_8B, 1024, weights=weights, bf16=bf16), rel=0.05)


@pytest.mark.parametrize(
    ("free", "four_bits", "chosen"),
    [
        (80, False, (False, False)),
        (24, True, (True, False)),
        (12, True, (True, True)),
    ],
)
def test_a_card_gets_the_fastest_savers_that_fit(free: int, four_bits: bool, chosen: tuple[bool, bool]) -> None:
    auto = spec(gradient_checkpointing="auto", quantize="auto", optimizer="auto")
    config = SimpleNamespace(**LLAMA_3_8B)
    room = {"tokens": 2048, "predicted": 256, "bf16": True, "four_bits": four_bits}
    made = resolve_savers(auto, config, free=free * GIB, **room)
    assert (made.gradient_checkpointing, made.quantize) == chosen
    assert resolve_savers(auto, config, free=None, **room).quantize is False
    assert resolve_savers(spec(), config, free=GIB, **room) == spec()  # what is set stays


def test_what_does_not_fit_is_one_sentence() -> None:
    auto = spec(gradient_checkpointing="auto", quantize="auto")
    with pytest.raises(SetupError, match=r"needs \d+\.\d GiB on the GPU.*lower training.options.sft.max_tokens"):
        resolve_savers(
            auto,
            SimpleNamespace(**LLAMA_3_8B),
            tokens=2048,
            predicted=256,
            bf16=True,
            free=4 * GIB,
            four_bits=False,
        )


@pytest.mark.parametrize("rows", [10, 200, 5000])
def test_few_rows_get_many_steps(rows: int) -> None:
    made = gpu_settings("dpo", rows)
    steps = rows * made["epochs"] // made["batch"]
    assert steps >= min(60, 3 * rows)
    assert made["batch"] <= 16


def test_packing_loses_little_and_no_row() -> None:
    sizes = [(37 * n) % 1900 + 100 for n in range(3000)]
    packed = bins([Group(range(size), [[1]]) for size in sizes], 2048)
    assert sorted(index for batch in packed for index in batch) == list(range(3000))
    assert all(sum(sizes[index] for index in batch) <= 2048 for batch in packed)
    assert sum(sizes) / (2048 * len(packed)) > 0.95


def test_tuned_arms_are_not_served_by_another_engine_than_the_student() -> None:
    with pytest.raises(SetupError, match=r"training.options.sft.gguf = none .* could not be compared"):
        check_training_options("sft", {"gguf": "none"})
