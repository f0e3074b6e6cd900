"""Trainings of all weights: what they change, what is served of them, and when they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.models import roles
from synth_dspy.models.embedded.pool import pool
from synth_dspy.models.weights.trained import MERGED, RESULT, SPEC, WHOLE
from synth_dspy.training import runner
from synth_dspy.training.base import load_base
from synth_dspy.training.merged_adapter import learned_ids, merge_adapters
from synth_dspy.training.merged_folder import write_merged
from synth_dspy.training.provider import LocalProvider, origin, training_of
from synth_dspy.training.runner import train
from synth_dspy.training.spec import check_training_options, read_spec
from synth_dspy.training.weight_check import check_weights
from tests.tiny import tiny_model

# PEFT asks transformers for properties under their old names.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_activation_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]
REPLIES = ("thirty days", "the goods")
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    yield
    pool().close()


def rows(method: str, count: int = 8) -> list[dict[str, Any]]:
    good, bad = ([{"role": "assistant", "content": reply}] for reply in REPLIES)
    sides = {"completion": good} if method == "sft" else {"chosen": good, "rejected": bad}
    return [
        {
            "id": f"r{number}",
            "source": f"s{number}",
            "prompt": [{"role": "user", "content": f"What is the notice period of contract {number}?"}],
            **sides,
        }
        for number in range(count)
    ]


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    def make(method: str = "sft", name: str = "training", **settings: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in ("rows.jsonl", *(["dev.jsonl"] if "dev" in settings else [])):
            (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows(method)))
        spec = {"method": method, "model": str(base), "rows": "rows.jsonl", "precision": "fp32", "threads": 1}
        spec |= {
            "lora": "none",
            "learning_rate": 1e-3,
            "gguf": "F16",
            "parity": 0.0,
            "completion_tokens": 8,
            **settings,
        }
        (folder / SPEC).write_text(json.dumps(spec))
        return folder / SPEC

    return make


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo"])
def test_every_weight_is_trained_and_the_served_file_holds_them(make: Make, base: Path, method: str) -> None:
    spec = make(method)
    result = train(spec, lambda event: None)
    folder = spec.parent
    assert {path.name for path in folder.iterdir()} >= {WHOLE, MERGED, RESULT, "Modelfile"}
    assert not (folder / "adapter").exists()
    assert result["loss"]["last"] < result["loss"]["first"]
    assert result["parity"]["tokens"] > 0
    before, after = weights(base), weights(folder / WHOLE)
    assert before.keys() == after.keys()
    matrices = [name for name, value in after.items() if value.ndim == 2]
    assert all(np.abs(after[name].astype(np.float32) - before[name]).max() > 1e-4 for name in matrices)
    trained, _ = load_base(folder / WHOLE)
    assert check_weights(trained, folder / MERGED) == len(after)
    with pytest.raises(ArmError, match="not the trained model"):
        check_weights(load_base(base)[0], folder / MERGED)


def test_preferences_begin_at_the_reference(make: Make) -> None:
    result = train(make("dpo", batch=8, warmup_steps=0), lambda event: None)
    assert result["steps"] == 1
    assert result["loss"]["first"] == pytest.approx(np.log(2), abs=1e-4)


def test_a_resumed_training_gives_the_same_weights(make: Make) -> None:
    settings = {"epochs": 2, "save_steps": 1, "batch": 4, "dev": "dev.jsonl", "eval_steps": 1, "patience": 9}
    whole, broken = make(name="whole", **settings), make(name="broken", **settings)

    def stop(event: dict[str, Any]) -> None:
        if event.get("step") == 3:
            raise KeyboardInterrupt

    expected = train(whole, lambda event: None)
    with pytest.raises(KeyboardInterrupt):
        train(broken, stop)
    events: list[dict[str, Any]] = []
    result = train(broken, events.append)
    assert [event["step"] for event in events if event["event"] == "progress"] == [3, 4]
    assert (result["loss"], result["best_step"]) == (expected["loss"], expected["best_step"])
    one, other = weights(whole.parent / WHOLE), weights(broken.parent / WHOLE)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_a_tuned_lm_answers_and_is_tuned_further_by_an_adapter(base: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    provider = LocalProvider(home, settings={"parity": 0.0, "batch": 2, "learning_rate": 1e-3})
    lm = roles.lm_for(f"embedded/{base}", role="student", provider=provider, temperature=0.0, max_tokens=8)
    first = lm.finetune(rows("sft"), None, {"method": "sft", "lora": "none", "epochs": 6}).result(timeout=180)
    assert first("What is the notice period of contract 3?")
    trained = training_of(first.model)
    assert trained is not None
    assert origin(first.model) == (str(trained / WHOLE), ())
    second = first.finetune(rows("dpo"), None, {"method": "dpo"}).result(timeout=180)
    preferred = training_of(second.model)
    assert preferred is not None
    assert read_spec(preferred / SPEC).model == str(trained / WHOLE)
    assert json.loads((preferred / SPEC).read_text())["model"] == f"../{trained.name}/{WHOLE}"  # a run can be moved
    assert learned_ids(preferred) == {f"s{number}" for number in range(8)}
    merged = write_merged(trained, tmp_path / "merged")
    one, other = weights(trained / WHOLE), weights(merged)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    with pytest.raises(SetupError, match="only adapters of one base can be merged"):
        merge_adapters([trained, preferred], tmp_path / "both")


def test_too_little_memory_is_said_before_anything_is_loaded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "available_memory", lambda: 2**29)
    with pytest.raises(SetupError, match=r"Training all weights of .* needs 0\.\d GiB of memory, and 0\.5 GiB can be"):
        train(make(), lambda event: None)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("kto", {}, "kto: lora = none, all weights, is for sft, dpo, orpo, cpt; kto trains an adapter"),
        ("sft", {"quantize": True}, "which 4-bit weights do not allow"),
        ("sft", {"lora": {"rnk": 3}}, r"training\.options\.sft\.lora\.rnk does not exist: did you mean rank\?"),
    ],
)
def test_what_cannot_be_is_one_sentence(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        check_training_options(method, {"lora": "none", **options})
