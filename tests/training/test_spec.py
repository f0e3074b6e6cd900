"""Specs: what names a training, and settings that are wrong before any work is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.core.run import jsonl_text
from synth_dspy.training.provider import trained_sources
from synth_dspy.training.spec import check_training_options, read_spec


def folder(tmp_path: Path, **settings: object) -> Path:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "rows.jsonl").write_text('{"id": "a"}\n')
    (tmp_path / "model.gguf").write_bytes(b"weights")
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps({"method": "sft", "model": "model.gguf", "rows": "rows.jsonl", **settings}))
    return spec


def test_a_fingerprint_stands_for_settings_rows_and_weights_wherever_they_lie(tmp_path: Path) -> None:
    here = read_spec(folder(tmp_path / "here")).fingerprint()
    assert len(here) == 16
    assert read_spec(folder(tmp_path / "there")).fingerprint() == here
    assert read_spec(folder(tmp_path / "here", epochs=2)).fingerprint() != here
    (tmp_path / "here" / "rows.jsonl").write_text('{"id": "b"}\n')
    assert read_spec(folder(tmp_path / "here")).fingerprint() == here  # `folder` wrote the first rows again
    changed = folder(tmp_path / "here")
    (tmp_path / "here" / "model.gguf").write_bytes(b"other weights")
    assert read_spec(changed).fingerprint() != here


def test_a_trained_row_may_hold_any_character(tmp_path: Path) -> None:
    spec = folder(tmp_path / "training")
    rows = [{"id": name, "source": name, "text": "One line\u2028and\x85another.\x1e"} for name in ("a", "b")]
    (spec.parent / "rows.jsonl").write_text(jsonl_text(rows), encoding="utf-8")
    assert trained_sources(spec.parent) == {"a", "b"}


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    spec = read_spec(folder(tmp_path / "x", workspace="..", prompts="rows.jsonl"))
    assert spec.model == str(tmp_path / "x" / "model.gguf")
    assert spec.workspace == tmp_path
    assert spec.prompts == tmp_path / "x" / "rows.jsonl"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 2}, r"training.options.dpo.epoch does not exist: did you mean epochs\?"),
        ({"epochs": 0}, "training.options.dpo.epochs is 0: it should be greater than 0"),
        ({"lora": {"ranks": 4}}, r"training.options.dpo.lora.ranks does not exist: did you mean rank\?"),
        ({"lora": {"targets": "q_proj"}}, r"lora.targets is 'q_proj': it should be a list, such as \["),
        ({"quux": 1}, "quux does not exist: the valid names are minutes, lora, learning_rate"),
        ({"lora": {"exampels": 4}}, "lora.exampels does not exist: the valid names are rank, alpha"),
        ({"exampels": 1}, r"exampels does not exist: did you mean examples\?"),
        ({"seed": 1}, "training.options.dpo.seed cannot be set"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        check_training_options("dpo", options, also=["examples"])


def test_a_method_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="'ppo'; the methods are sft, dpo, orpo, kto, grpo"):
        read_spec(folder(tmp_path / "x", method="ppo"))
