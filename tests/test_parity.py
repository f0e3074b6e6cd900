"""Parity: equal token ids, the trained weights in the file, and the trained model's tokens from the server."""

from __future__ import annotations

import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import TEMPLATE, tiny_adapter, tiny_model

from synth_dspy.core.errors import ArmError
from synth_dspy.training.base import apply_adapters, base_folder, load_base
from synth_dspy.training.merge import merge
from synth_dspy.training.parity import MARGIN, Parity, check_parity, explain_failure
from synth_dspy.training.spec import TrainSpec
from synth_dspy.training.weight_check import check_weights

PROMPTS = [[{"role": "user", "content": f"Who is the principal of contract {n}?\n\n{n}. né"}] for n in range(12)]
TOKENS = 8
SPEC = TrainSpec(method="sft", model="model", rows=Path("rows.jsonl"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(home / "cache"))


@pytest.fixture(scope="module")
def base(home: Path) -> Path:
    return tiny_model(home / "base")


@pytest.fixture(scope="module")
def adapter(home: Path, base: Path) -> Path:
    return tiny_adapter(home / "adapter", base)


@pytest.fixture
def trained(base: Path, adapter: Path) -> tuple[Any, Any]:
    model, tokenizer = load_base(base)
    return apply_adapters(model, [adapter]), tokenizer


def servers() -> list[threading.Thread]:
    """Those that run."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("model-server")]


def test_the_merged_model_answers_as_the_trained_one(
    trained: tuple[Any, Any], base: Path, adapter: Path, tmp_path: Path
) -> None:
    merge(base, [adapter], tmp_path / "model.gguf", "F16")
    parity = check_parity(*trained, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)
    assert parity.n == len(PROMPTS)
    assert parity.share >= 0.95
    assert parity.asdict()["agreed"] == parity.agreed
    assert parity.tokens > len(PROMPTS)
    assert parity.difference is not None
    assert parity.difference < parity.bound
    assert explain_failure(parity, SPEC) is None
    assert servers() == []


def wrong_adapter(kind: str, adapter: Path, target: Path) -> Path:
    """A copy of the adapter with a fault that a merge could have."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(adapter, target)
    config, weights = target / "adapter_config.json", target / "adapter_model.safetensors"
    if kind.startswith("scale"):
        settings = json.loads(config.read_text())
        config.write_text(json.dumps({**settings, "lora_alpha": settings["lora_alpha"] * float(kind[5:])}))
    else:  # two projections of one layer change places
        one, other = kind.split(" for ")
        swap = {f"layers.1.mlp.{one}": f"layers.1.mlp.{other}", f"layers.1.mlp.{other}": f"layers.1.mlp.{one}"}
        pattern = re.compile("|".join(map(re.escape, swap)))
        matrices = load_file(weights)
        save_file({pattern.sub(lambda m: swap[m[0]], name): each for name, each in matrices.items()}, weights)
    return target


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")
@pytest.mark.parametrize("prompts", [1, 4])
@pytest.mark.parametrize("std", [0.2, 3e-3], ids=["a large change", "a small change"])
@pytest.mark.parametrize("kind", ["Q8_0", "F16"])
@pytest.mark.parametrize("fault", ["scale1.1", "scale0.9", "gate_proj for up_proj"])
def test_a_wrong_merge_is_found_however_few_the_prompts(
    fault: str, kind: Any, std: float, prompts: int, base: Path, tmp_path: Path
) -> None:
    """Also where every reply is the same: the weights are compared, not only what they say."""
    from peft import PeftModel

    adapter = tiny_adapter(tmp_path / "adapter", base, std=std)
    model, tokenizer = load_base(base)
    trained = PeftModel.from_pretrained(model, adapter).eval()
    merge(base, [adapter], tmp_path / "right.gguf", kind)
    merge(base, [wrong_adapter(fault, adapter, tmp_path / "wrong")], tmp_path / "wrong.gguf", kind)
    assert check_weights(trained, tmp_path / "right.gguf") == 20
    with pytest.raises(ArmError, match=r"not the trained model.*(differs by|of the change)"):
        check_parity(trained, tokenizer, tmp_path / "wrong.gguf", PROMPTS[:prompts], max_tokens=TOKENS)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")
@pytest.mark.parametrize("kind", ["Q8_0", "F16"])
@pytest.mark.parametrize("std", [1e-3, 1e-4, 1e-5])
def test_a_change_below_the_rounding_of_the_file_is_no_fault(kind: Any, std: float, base: Path, tmp_path: Path) -> None:
    """Of a very small training; some of the base's weights lie on the steps of the type, and some do not."""
    from peft import PeftModel
    from safetensors.numpy import load_file, save_file

    mixed = Path(shutil.copytree(base, tmp_path / "mixed"))
    weights = load_file(mixed / "model.safetensors")
    for values in weights.values():
        if values.ndim == 2:
            values[::2] = values[::2].astype(np.float16)
    save_file(weights, mixed / "model.safetensors", metadata={"format": "pt"})
    adapter = tiny_adapter(tmp_path / "adapter", mixed, std=std)
    model, _ = load_base(mixed)
    trained = PeftModel.from_pretrained(model, adapter).eval()
    merge(mixed, [adapter], tmp_path / "right.gguf", kind)
    assert check_weights(trained, tmp_path / "right.gguf") == 20


@pytest.mark.parametrize("kind", ["Q8_0", "F16"])
def test_an_adapter_that_was_not_merged_is_found(
    kind: Any, trained: tuple[Any, Any], base: Path, tmp_path: Path
) -> None:
    merge(base, [], tmp_path / "model.gguf", kind)
    with pytest.raises(ArmError, match=r"The merged file is not the trained model: model\.layers\.0"):
        check_parity(*trained, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)
    assert servers() == []


def test_a_server_that_computes_something_else_is_found(
    trained: tuple[Any, Any], base: Path, adapter: Path, tmp_path: Path
) -> None:
    """The right weights under another rotary embedding: no tensor differs, and the replies do."""
    merge(base, [adapter], tmp_path / "model.gguf", "F16")
    model, tokenizer = trained
    model.model.rotary_emb.inv_freq *= 3.0
    parity = check_parity(model, tokenizer, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)
    assert parity.share < 0.95
    failure = explain_failure(parity, SPEC)
    assert failure is not None
    assert "does not compute what was trained" in failure
    first = parity.disagreements[0]
    assert first.served_token != first.trained_token
    assert first.margin > MARGIN[parity.precision]
    assert first.prompt in PROMPTS[0][0]["content"] or parity.disagreements


def test_log_probabilities_find_what_no_token_shows() -> None:
    close = Parity(n=4, tokens=80, agreed=80, difference=0.02, bound=0.05, precision="f32", disagreements=())
    assert explain_failure(close, SPEC) is None
    far = replace(close, difference=0.2)
    assert "log-probabilities differ" in (explain_failure(far, SPEC) or "")
    assert explain_failure(far, SPEC.model_copy(update={"parity": 0.0})) is None  # switched off by hand


def test_the_noise_of_a_precision_is_no_disagreement(
    trained: tuple[Any, Any], base: Path, adapter: Path, tmp_path: Path
) -> None:
    """Replies of a model in bf16, emulated by torch, count as its own in f32: nearly equal tokens change places."""
    import torch

    model, tokenizer = trained
    merge(base, [adapter], tmp_path / "model.gguf", "F16")
    with torch.autocast("cpu", torch.bfloat16):
        parity = check_parity(model, tokenizer, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)
    assert parity.share >= 0.95


def test_what_prompts_begin_with_alike_changes_nothing(
    trained: tuple[Any, Any], base: Path, adapter: Path, tmp_path: Path
) -> None:
    """Prompts one after another share what was read: each must come out as it does alone."""
    merge(base, [adapter], tmp_path / "model.gguf", "F16")
    model, tokenizer = trained
    model.model.rotary_emb.inv_freq *= 3.0  # disagreements, with places and margins
    longer = [[*prompt, {"role": "user", "content": "And when?"}] for prompt in PROMPTS[:1]]
    prompts = [*PROMPTS[:3], *PROMPTS[:1], *longer]
    together = check_parity(model, tokenizer, tmp_path / "model.gguf", prompts, max_tokens=TOKENS)
    alone = [check_parity(model, tokenizer, tmp_path / "model.gguf", [prompt], max_tokens=TOKENS) for prompt in prompts]
    expected = [each for one in alone for each in one.disagreements]
    assert 0 < len(together.disagreements) <= 5
    assert [each.prompt for each in together.disagreements] == [each.prompt for each in expected[:5]]


@pytest.mark.parametrize(
    ("said", "instead", "sentence"),
    [
        (
            "helpful assistant",
            "terse assistant",
            r"at token \d+ of a prompt the training has '.*helpful.*', the server '",
        ),
        ("'<|im_start|>assistant\n'", "''", "the server nothing"),
    ],
    ids=["other words", "ends early"],
)
def test_another_chat_template_is_told(
    said: str, instead: str, sentence: str, trained: tuple[Any, Any], base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    assert said in TEMPLATE
    (other / "chat_template.jinja").write_text(TEMPLATE.replace(said, instead))
    merge(other, [adapter], tmp_path / "model.gguf")
    with pytest.raises(ArmError, match="chat template or tokeniser differs.*" + sentence):
        check_parity(*trained, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)


def test_without_prompts_nothing_is_claimed(trained: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(ArmError, match="no prompts to compare"):
        check_parity(*trained, tmp_path / "model.gguf", [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")
def test_a_tiny_change_of_a_quantised_base_is_no_fault(tmp_path: Path) -> None:
    """Its weights have a few values each block, often halfway between two steps of 16 bits, so that any change moves
    them by a whole one: more arrives than was trained."""
    from peft import PeftModel

    name = "smollm2-135m-instruct"
    adapter = tiny_adapter(tmp_path / "adapter", base_folder(name), std=1e-5, layers=(29,))
    model, _ = load_base(name)
    trained = PeftModel.from_pretrained(model, adapter).eval()
    merge(name, [adapter], tmp_path / "right.gguf", "F16")
    assert check_weights(trained, tmp_path / "right.gguf") > 200
