"""A run's folder: whole files or none, and a resume that knows its configuration."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from synth_dspy.core import run as runs
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError


def test_a_run_is_resumed_with_the_configuration_it_was_started_with(tmp_path: Path) -> None:
    config = CompileConfig(seed=3, words=120)
    started = runs.start(tmp_path, "demo", config)
    again, read = runs.resume(tmp_path, "demo", started.id, CompileConfig)
    assert (again.folder, read) == (started.folder, config)


def test_an_unknown_run_names_the_latest(tmp_path: Path) -> None:
    started = runs.start(tmp_path, "demo", CompileConfig())
    with pytest.raises(SetupError, match=started.id):
        runs.resume(tmp_path, "demo", "none", CompileConfig)


def test_equal_values_give_equal_files(tmp_path: Path) -> None:
    run = runs.start(tmp_path, "demo", CompileConfig())
    first = run.write_json("a.json", {"b": 1, "a": [1.5, None]}).read_bytes()
    assert run.write_json("a.json", {"a": [1.5, None], "b": 1}).read_bytes() == first


def test_a_failed_write_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    run = runs.start(tmp_path, "demo", CompileConfig())
    run.write_text("report.md", "old")

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))  # as a full disk does, it ends a write half-way
    try:
        with pytest.raises(SetupError, match=r"File too large.*--resume"):
            run.write_text("report.md", "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (run.folder / "report.md").read_text() == "old"
    assert not list(run.folder.glob(".report*"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="Could not create the run's folder"):
        runs.start(tmp_path / "file", "demo", CompileConfig())
