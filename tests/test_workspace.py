"""The workspace: found upward, its tasks named, a misspelt one answered with the nearest."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from synth_dspy.cli import init
from synth_dspy.core.config import compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.workspace import find_workspace, task_file, task_names


def test_found_from_a_folder_below(workspace: Path) -> None:
    assert find_workspace(workspace / "data" / "contracts") == workspace


def test_none_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"synth_dspy\.init"):
        find_workspace(tmp_path)


def test_tasks_are_files_without_an_underscore(workspace: Path) -> None:
    names = task_names(workspace)
    assert "contract_qa" in names
    assert not [name for name in names if name.startswith("_")]


def test_a_misspelt_task_is_answered_with_the_nearest(workspace: Path) -> None:
    with pytest.raises(SetupError, match="Did you mean contract_qa"):
        task_file(workspace, "contract_aq")


def test_a_second_task_of_a_file_is_answered_with_the_file_it_needs(tmp_path: Path) -> None:
    init.main([str(tmp_path / "mine")])
    file = tmp_path / "mine" / "programs" / "tickets.py"
    file.write_text(file.read_text(encoding="utf-8") + "\n\n@task\ndef urgent() -> Task: ...\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"tickets\.py declares a function urgent, .* move it to urgent\.py"):
        task_file(tmp_path / "mine", "urgent")


def test_init_makes_a_workspace_and_never_overwrites_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine"
    assert init.main([str(target)]) == 0
    assert find_workspace(target) == target
    assert (target / "data" / "tickets.jsonl").is_file()
    assert "compile tickets --quick" in (target / "README.md").read_text(encoding="utf-8")
    assert len((target / "programs" / "tickets.py").read_text(encoding="utf-8").splitlines()) <= 40
    assert f"cd {target}" in capsys.readouterr().out
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "README.md").write_text("mine\n")
    assert init.main([str(tmp_path / "kept")]) == 0
    assert (tmp_path / "kept" / "README.md").read_text() == "mine\n"
    (target / "programs" / "own.py").write_text("mine\n")
    with pytest.raises(SetupError, match="nothing was changed"):
        init.main([str(target)])
    assert (target / "programs" / "own.py").read_text() == "mine\n"


BUILT = """
import sys
from pathlib import Path
from synth_dspy.core.config import compile_settings
from synth_dspy.core.workspace import task_file
from synth_dspy.pipeline.saved import build_task
here, name = Path.cwd(), sys.argv[1]
task = build_task(here, name, compile_settings(task_file(here, name))())
print(len(task.source.read(8).items), *task.optimizers)
"""


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--from", "contract_qa"),
        ("--from", "function_calling", "--eject", "functions"),
        ("--from", "scoped_assistant", "--eject", "assistant"),
        ("--from", "table_docs"),
    ],
)
def test_what_init_makes_is_a_task_by_itself(tmp_path: Path, flags: tuple[str, ...]) -> None:
    init.main([str(tmp_path / "mine"), *flags])
    name = flags[1] if flags else "tickets"
    assert task_names(tmp_path / "mine") == [name]
    command = [sys.executable, "-c", BUILT, name]
    done = subprocess.run(command, cwd=tmp_path / "mine", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    items, baseline, *arms = done.stdout.split()
    assert int(items) >= 8
    assert baseline in ("zero_shot", "rag")
    assert {"bootstrap", "sft", "dpo", "orpo"} <= set(arms)


def test_a_sample_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="there are contract_qa, doc_qa, function_calling"):
        init.main([str(tmp_path / "mine"), "--from", "contracts"])
    assert not (tmp_path / "mine").exists()


def test_what_the_data_say_can_be_typed_in_the_workspace() -> None:
    here = find_workspace(Path(__file__).parent)
    flags = set()
    for name in task_names(here):
        for section, field in compile_settings(task_file(here, name)).model_fields.items():
            flags |= {f"--{section}.{each}" for each in getattr(field.annotation, "model_fields", ())}
    readmes = sorted(here.glob("data/*/README.md"))
    assert len(readmes) >= 4
    for readme in readmes:
        text = " ".join(readme.read_text(encoding="utf-8").split())
        assert all(find_spec(f"synth_dspy.{verb}") for verb in re.findall(r"python -m synth_dspy\.(\w+)", text)), readme
        assert set(re.findall(r"--[a-z]+\.[a-z_]+", text)) <= flags, readme
        for path in re.findall(r"(?<![\w/])(?:data|programs|eval|optimizers)/[\w/.]+\w", text):
            assert (here / path).exists(), f"{readme}: {path}"
        for sentence in re.findall(r"[^.:]*python -m pytest", text):
            assert "In a checkout of the project" in sentence, readme


def test_the_commands_are_listed_and_all_there() -> None:
    from synth_dspy.__main__ import COMMANDS

    folder = Path(init.__file__).parent
    shims = folder.parent.glob("*.py")
    runnable = {path.stem for path in shims if "run_verb(main)" in path.read_text(encoding="utf-8")}
    runnable |= {path.parent.name for path in folder.parent.glob("*/__main__.py")}
    assert set(COMMANDS) == runnable - {"__main__"}
