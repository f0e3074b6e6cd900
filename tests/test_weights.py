"""`python -m synth_dspy.weights`: what it lists, and how it answers mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synth_dspy.cli import weights
from synth_dspy.core.errors import SetupError


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path))
    return tmp_path


def test_lists_every_model_with_size_licence_and_where_it_is_from(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    weights.main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "smollm2-135m-instruct",
        "qwen2.5-coder-0.5b-instruct",
        "all-minilm-l6-v2",
        "cache:",
    ]
    assert all("MB  Apache-2.0" in line and "not fetched (from " in line for line in lines[:3])
    assert lines[-1].endswith(str(home))


@pytest.mark.parametrize(("arguments", "says"), [(["pull"], "needs a name"), (["pull", "smolm"], "'smolm'")])
def test_mistakes_are_one_sentence(arguments: list[str], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        weights.main(arguments)


def test_the_verb_exits_2_with_one_line_and_no_traceback(home: Path) -> None:
    command = [sys.executable, "-m", "synth_dspy.weights", "pull", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: There are no weights named 'nothing'")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from synth_dspy import weights\n"
        "try: weights.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'dspy', 'torch', 'openvino', 'transformers', 'huggingface_hub', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
