"""Saved programs: JSON, and no code but this package's comes from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import synth_dspy
from synth_dspy.core.config import compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.workspace import task_file
from synth_dspy.pipeline.saved import ABOUT, PROGRAM, build_task, fingerprint, index_folder, is_same


def write(folder: Path, lm: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / PROGRAM).write_text(json.dumps({"answer": {"demos": [], "lm": lm}, "metadata": {}}))
    (folder / ABOUT).write_text(json.dumps({"task": "contract_qa", "config": {}}))
    return folder


@pytest.mark.parametrize(
    "lm",
    [
        {"model": "x", "_dspy_lm_class": "os.system"},
        {"model": "x", "engine": {"class": "subprocess:Popen", "state": {}}},
        {"model": "x", "engine": "auto", "async_engine": {"class": "evil:Engine", "state": {}}},
    ],
)
def test_foreign_code_in_a_saved_program_is_refused(tmp_path: Path, lm: Any) -> None:
    with pytest.raises(SetupError, match="asks to import"):
        synth_dspy.load(write(tmp_path / "program", lm))


def test_a_folder_without_a_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"program\.json is missing"):
        synth_dspy.load(tmp_path)


def test_a_run_is_answered_with_its_programs(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    for arm in ("sft", "rag"):
        write(tmp_path / "programs" / arm, None)
    with pytest.raises(SetupError, match=r"name one of those in it: programs/rag, programs/sft\.$"):
        synth_dspy.load(tmp_path)
    with pytest.raises(SetupError, match=r"name one of those in it: rag, sft\.$"):
        synth_dspy.load(tmp_path / "programs")


def test_a_damaged_program_is_named(tmp_path: Path) -> None:
    (write(tmp_path / "program", None) / PROGRAM).write_text("{")
    with pytest.raises(SetupError, match=r"program\.json is not JSON .*; copy it again"):
        synth_dspy.load(tmp_path / "program")


def test_programs_are_the_same_under_whatever_name(tmp_path: Path) -> None:
    sft, orpo, rag = (write(tmp_path / name, {"model": lm}) for name, lm in (("sft", "a"), ("orpo", "a"), ("rag", "b")))
    for folder in (sft, orpo, rag):
        about = json.loads((folder / ABOUT).read_text()) | {"arm": folder.name, "signature": f"of {folder.name}"}
        (folder / ABOUT).write_text(json.dumps(about))
    assert is_same(sft, orpo)
    assert not is_same(sft, rag)
    (orpo / ABOUT).write_text(json.dumps(about | {"weights": "adapters/orpo/model.gguf"}))
    assert not is_same(sft, orpo)


def test_fingerprints_do_not_depend_on_order() -> None:
    assert fingerprint({"a": 1, "b": Path("x")}) == fingerprint({"b": Path("x"), "a": 1}) != fingerprint({"a": 2})


def test_an_index_belongs_to_what_is_known_not_to_what_is_asked(workspace: Path) -> None:
    settings = compile_settings(task_file(workspace, "contract_qa"))

    def folder(**given: Any) -> Path:
        config = settings.model_validate({"task": given})
        return index_folder(workspace, "contract_qa", config, build_task(workspace, "contract_qa", config))

    assert folder(cuad="cuad") == folder(cuad="cuad", categories="Parties") != folder(documents="cuad")
