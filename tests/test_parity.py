"""Parity: token ids must be equal, and teacher forcing finds exactly the replies that generation would."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny import TEMPLATE, tiny_adapter, tiny_model

from synth_dspy.errors import ArmError
from synth_dspy.training.base import apply_adapters, load_base
from synth_dspy.training.merge import merge
from synth_dspy.training.parity import check_parity

PROMPTS = [[{"role": "user", "content": f"Who is the principal of contract {n}?\n\n{n}. né"}] for n in range(12)]
TOKENS = 8


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


def test_the_merged_model_answers_as_the_trained_one(
    trained: tuple[Any, Any], base: Path, adapter: Path, tmp_path: Path
) -> None:
    merge(base, [adapter], tmp_path / "model.gguf", "F16")
    parity = check_parity(*trained, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)
    assert parity.n == len(PROMPTS)
    assert parity.share >= 0.9
    assert parity.asdict()["agreed"] == parity.agreed
    assert parity.tokens > len(PROMPTS)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("model-server")]


def test_an_adapter_that_was_not_merged_is_found_out(trained: tuple[Any, Any], base: Path, tmp_path: Path) -> None:
    merge(base, [], tmp_path / "model.gguf")
    parity = check_parity(*trained, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)
    assert parity.share < 0.5
    first = parity.disagreements[0]
    assert first.served_token != first.trained_token
    assert first.margin > 0
    assert first.prompt in PROMPTS[0][0]["content"]
    assert parity.near_ties <= parity.n - parity.agreed


def test_teacher_forcing_agrees_where_generation_does(
    trained: tuple[Any, Any], base: Path, adapter: Path, tmp_path: Path
) -> None:
    """Q8_0 changes some replies of so small a model and not others: the two ways of comparing must name the same."""
    import torch

    from synth_dspy.lms.generation import Sampling
    from synth_dspy.lms.server import ModelServer

    model, tokenizer = trained
    merge(base, [adapter], tmp_path / "model.gguf", "Q8_0")
    server = ModelServer(tmp_path / "model.gguf")
    try:
        texts = [server.render(prompt) for prompt in PROMPTS]
        served = [server.submit(text, Sampling(max_tokens=TOKENS)).result().token_ids for text in texts]
    finally:
        server.close()
    same = 0
    for text, reply in zip(texts, served, strict=True):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            said = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        same += tuple(said[0, ids.shape[1] :].tolist()) == reply
    assert 0 < same < len(PROMPTS)  # else this test shows nothing
    parity = check_parity(model, tokenizer, tmp_path / "model.gguf", PROMPTS, max_tokens=TOKENS)
    assert parity.agreed == same


def test_what_prompts_begin_with_alike_changes_nothing(trained: tuple[Any, Any], base: Path, tmp_path: Path) -> None:
    """Prompts one after another share what was read: each must come out as it does alone."""
    merge(base, [], tmp_path / "model.gguf")  # not the trained model: disagreements, with places and margins
    longer = [[*prompt, {"role": "user", "content": "And when?"}] for prompt in PROMPTS[:1]]
    prompts = [*PROMPTS[:3], *PROMPTS[:1], *longer]
    together = check_parity(*trained, tmp_path / "model.gguf", prompts, max_tokens=TOKENS)
    alone = [check_parity(*trained, tmp_path / "model.gguf", [prompt], max_tokens=TOKENS) for prompt in prompts]
    assert 0 < len(together.disagreements) <= 5
    for found, expected in zip(
        together.disagreements, [each for one in alone for each in one.disagreements], strict=True
    ):
        assert (found.served, found.place, found.trained_token) == (
            expected.served,
            expected.place,
            expected.trained_token,
        )
        assert found.margin == pytest.approx(expected.margin, abs=1e-3)


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
    with pytest.raises(ArmError, match="no held-out prompts"):
        check_parity(*trained, tmp_path / "model.gguf", [])
