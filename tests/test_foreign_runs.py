"""The folder of a run that somebody else made, whose files are links, pipes, or have no end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_runs import make_run, row

from synth_dspy.cli import blind, choose, report, restore
from synth_dspy.cli.compile import main as compile_main
from synth_dspy.core import run as runs
from synth_dspy.core.config import CompileConfig, Training
from synth_dspy.core.errors import SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall

PARTS = ["results.json", "measurements.json", "predictions.jsonl"]
VERBS: dict[str, Callable[[Path, Path], object]] = {
    "report": lambda run, _: report.main([str(run)]),
    "choose": lambda run, out: choose.main([str(run), "--out", str(out)]),
    "blind": lambda run, out: blind.main(["sheets", str(run), "--out", str(out)]),
}


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)


ENDLESS: list[Callable[[Path], None]] = [os.mkfifo, sparse, lambda path: path.symlink_to("/dev/zero")]


@pytest.fixture
def write_finished_run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", [row(arm, index, index % 2) for arm in ("rag", "sft") for index in range(6)])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("made", [*ENDLESS, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_of_a_run_is_refused(write_finished_run: Path, part: str, made: Callable[[Path], None]) -> None:
    (write_finished_run / part).unlink()
    made(write_finished_run / part)
    with pytest.raises(SetupError, match="is not a finished run"):
        report.main([str(write_finished_run)])


@pytest.mark.parametrize("verb", VERBS)
def test_files_of_another_folder_are_not_brought_into_a_run(
    write_finished_run: Path, tmp_path: Path, verb: str
) -> None:
    theirs = tmp_path / "mine"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("dear")
    (write_finished_run / ".results").symlink_to(theirs)
    VERBS[verb](write_finished_run, tmp_path / "out")
    assert (theirs / "letter.txt").read_text() == "dear"
    assert not (write_finished_run / "letter.txt").exists()


def test_a_report_is_not_written_through_links(write_finished_run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in (
        "report.html",
        "report.md",
        f".report.html.{os.getpid()}.partial",
        f".report.md.{os.getpid()}.partial",
    ):
        (write_finished_run / name).symlink_to(mine)
    report.main([str(write_finished_run)])
    assert mine.read_text() == "mine"
    assert "sft" in (write_finished_run / "report.md").read_text()


@pytest.mark.parametrize("name", ["ledger.sqlite.lock", "ledger.sqlite.http.lock"])
def test_a_lock_that_is_a_link_is_not_written(tmp_path: Path, name: str) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.record(ModelCall("k", "{}", "m", "student"))
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to(mine)
    with pytest.raises(SetupError, match="Could not open the ledger"):
        restore.main([str(tmp_path)])
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("pipe", [True, False])
def test_a_log_that_is_a_link_or_a_pipe_is_not_written(tmp_path: Path, pipe: bool) -> None:
    run = runs.start(tmp_path, "demo", CompileConfig())
    mine = tmp_path / "mine"
    mine.write_text("mine")
    if pipe:
        os.mkfifo(run.folder / "run.log")
    else:
        (run.folder / "run.log").symlink_to(mine)
    with pytest.raises(SetupError, match=r"Could not write .*run\.log"):
        runs.log_to(run)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("name", [runs.SIGNATURE, runs.WORKSPACE_FILE])
@pytest.mark.parametrize("made", ENDLESS)
def test_small_files_of_a_run_are_not_waited_for(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str, made: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(workspace)
    config = CompileConfig(training=Training(feedback=Path("/etc/passwd")))
    run = runs.start(tmp_path, "contract_qa", config, workspace)
    (run.folder / name).unlink()
    made(run.folder / name)
    if name == runs.SIGNATURE:
        with pytest.raises(SetupError, match=r"not made by you .*\n  - training\.feedback"):
            compile_main(["contract_qa", "--resume", str(run.folder)])
    else:
        assert runs.is_own(run, workspace)
        with pytest.raises(SetupError, match="/etc/passwd, line 1"):
            compile_main(["contract_qa", "--resume", str(run.folder)])


@pytest.mark.parametrize("weights", [5, [], {}, "../" * 50, "a" * 5000])
def test_weights_of_any_kind_do_not_stop_a_choice(write_finished_run: Path, weights: object) -> None:
    about = write_finished_run / "programs" / "rag" / "about.json"
    about.parent.mkdir(parents=True)
    about.write_text(json.dumps({"weights": weights}))
    assert choose.main([str(write_finished_run)]) in (0, choose.NOTHING_WITHIN_LIMITS)


@pytest.mark.parametrize("verb", ["report", "choose"])
def test_rows_of_any_depth_do_not_stop_a_report(write_finished_run: Path, tmp_path: Path, verb: str) -> None:
    deep = "[" * 100_000
    for name in ("datasets/test.jsonl", "programs/rag/about.json"):
        (write_finished_run / name).parent.mkdir(parents=True)
        (write_finished_run / name).write_text(deep)
    VERBS[verb](write_finished_run, tmp_path / "out")
