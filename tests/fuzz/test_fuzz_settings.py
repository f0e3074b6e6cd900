"""Configurations, training specs and the plain-text parts of a house."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import ROOT, damaged, json_files

from synth_dspy.core.config import absolute, compile_settings, read_toml, to_toml
from synth_dspy.core.errors import SetupError
from synth_dspy.domains.assistant.house import House
from synth_dspy.domains.assistant.rules import read_rules
from synth_dspy.domains.tables.generate import read_industries, read_vocabulary
from synth_dspy.training.spec import read_spec

CONFIG = b"""
seed = 3
limit = 5
runs = "here"
words = 200
[models]
student = "embedded/smollm2-135m-instruct"
api_base = "http://localhost:8000/v1"
[models.options.teacher]
temperature = 0.7
[synthesis]
candidates = 4
train_on = "gold"
[evaluation]
arms = ["rag", "sft"]
[training]
feedback = "people.jsonl"
[training.options.sft]
epochs = 2
[task]
documents = "documents"
"""
SPEC = {
    "method": "sft",
    "model": "smollm2-135m-instruct",
    "rows": "rows.jsonl",
    "adapters": ["a"],
    "lora": {"rank": 8, "targets": ["q_proj"]},
    "epochs": 2,
    "seed": 1,
    "call_token": "<tool_call>",
}


def test_configurations(fuzz: Any, fresh: Callable[[], Path]) -> None:
    model, path = compile_settings(ROOT / "programs" / "contract_qa.py"), fresh() / "run.toml"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return to_toml(absolute(read_toml(path, model)))

    assert read(CONFIG)
    fuzz(damaged(CONFIG), read)


def test_training_specs(fuzz: Any, fresh: Callable[[], Path]) -> None:
    path = fresh() / "spec.json"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_spec(path)

    fuzz(json_files(SPEC), read)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # "[[" in a pattern
@pytest.mark.parametrize("name", ["house.toml", "rules.md", "tone.md"])
def test_houses(name: str, fuzz: Any, fresh: Callable[[], Path]) -> None:
    def read(content: bytes) -> object:
        house = House(fresh())
        (house.folder / name).write_bytes(content)
        return house.words("role") if name == "house.toml" else read_rules(house.folder / name)

    valid = (ROOT / "data" / "bank" / name).read_bytes()
    assert read(valid)
    fuzz(damaged(valid), read)


@pytest.mark.parametrize(("name", "read"), [("vocabulary.toml", read_vocabulary), ("naics.csv", read_industries)])
def test_industries(name: str, read: Callable[[Path], Any], fuzz: Any, fresh: Callable[[], Path]) -> None:
    path = fresh() / name

    def reads(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    valid = (ROOT / "data" / "industries" / name).read_bytes()[:4_000].rpartition(b"\n")[0]
    fuzz(damaged(valid), reads)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x = " + "[" * 5_000, "nested too deeply"),
        ("seed = " + "9" * 5_000, "not valid TOML"),
        ("seed = 1\0", "not valid TOML"),
        ("runs = '\ud800'", "not UTF-8"),
    ],
)
def test_a_configuration_is_refused_in_one_sentence(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(SetupError, match=reason):
        read_toml(path, compile_settings(ROOT / "programs" / "contract_qa.py"))
