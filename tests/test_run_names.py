"""A run is named by its id, by its task and id, or by its folder, wherever a command takes one."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished_runs import make_run, row

from synth_dspy.cli import blind, choose, report
from synth_dspy.core.errors import SetupError
from synth_dspy.core.run_names import find_run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "__init__.py").touch()
    rows = [row(arm, number, float(arm == "sft")) for arm in ("rag", "sft") for number in range(6)]
    make_run(tmp_path / "runs" / "contract_qa" / "20260101-1", rows)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


@pytest.mark.parametrize("named", ["20260101-1", "contract_qa/20260101-1", "../runs/contract_qa/20260101-1"])
def test_commands_take_a_run_by_its_id_and_by_its_folder(
    workspace: Path, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choose.main([named, "--out", str(workspace / "choice")])
    report.main([named])
    blind.main(["sheets", named, "--out", str(workspace / "sheets")])
    assert "6 items with the outputs of rag, sft" in capsys.readouterr().out
    assert (workspace / "choice" / "choice.json").is_file()
    assert (workspace / "runs" / "contract_qa" / "20260101-1" / "report.md").is_file()


def test_what_lies_in_a_run_is_found_by_its_id(workspace: Path) -> None:
    program = workspace / "runs" / "contract_qa" / "20260101-1" / "programs" / "sft"
    program.mkdir(parents=True)
    assert find_run("20260101-1/programs/sft") == program


def test_a_path_that_exists_comes_before_an_id(workspace: Path) -> None:
    here = workspace / "elsewhere" / "20260101-1"
    here.mkdir()
    assert find_run("20260101-1").resolve() == here


def test_an_id_of_two_tasks_is_one_sentence(workspace: Path) -> None:
    (workspace / "runs" / "doc_qa" / "20260101-1").mkdir(parents=True)
    with pytest.raises(SetupError, match=r"20260101-1 may be .*contract_qa.* or .*doc_qa.*: name the folder\."):
        choose.main(["20260101-1"])


def test_a_name_that_no_run_has_is_one_sentence(workspace: Path) -> None:
    with pytest.raises(SetupError, match=r"20260101-2 is not a finished run: .*name a run by its id or its folder"):
        choose.main(["20260101-2"])
