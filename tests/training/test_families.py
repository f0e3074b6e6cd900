"""Every family of causal language models is trained by SFT and DPO, and served as what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, family_model

from synth_dspy.models.embedded.backend import choose
from synth_dspy.models.weights.trained import CONCATENATED, MERGED, SPEC
from synth_dspy.training.provider import prepare
from synth_dspy.training.runner import train

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # the trainers' own, in this process
USER = {"role": "user", "content": "Who is the principal, and when does the agreement between buyer and seller end?"}
ROWS = {
    "sft": [{"messages": [USER, {"role": "assistant", "content": "The seller."}]}] * 4,
    "dpo": [
        {
            "id": str(number),
            "source": "",
            "prompt": [USER],
            "chosen": [{"role": "assistant", "content": "The seller, on the first day of January."}],
            "rejected": [{"role": "assistant", "content": "Payment is due."}],
        }
        for number in range(4)
    ],
}
OPENVINO = {"llama-3", "qwen2.5", "smollm2"}
"""Families that OpenVINO reads."""


def _train(home: Path, model: str, method: str) -> tuple[Path, dict[str, Any]]:
    options = {"method": method, "epochs": 4, "batch": 2, "learning_rate": 1e-2, "completion_tokens": 8}
    folder = prepare(home, model, ROWS[method], {**options, "parity": 0.9, "precision": "fp32", "gguf": "F16"})
    return folder, train(folder / SPEC, lambda event: None)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_trained_and_served_as_trained(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNTH_DSPY_PRECISION", "f32")
    base = family_model(tmp_path / "base", family)
    tuned = MERGED if family in OPENVINO else "adapter"
    assert (choose(base).engine == "openvino") == (family in OPENVINO)
    sft, result = _train(tmp_path, f"embedded/{base}", "sft")
    assert result["loss"]["last"] < result["loss"]["first"]
    assert result["parity"]["share"] >= 0.9
    assert (sft / tuned).exists()
    dpo, result = _train(tmp_path, f"embedded/{sft / tuned}", "dpo")  # on top of it
    assert result["loss"]["last"] < result["loss"]["first"]
    assert result["parity"]["share"] >= 0.9
    assert (dpo / (MERGED if family in OPENVINO else CONCATENATED)).exists()
