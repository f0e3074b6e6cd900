"""`python -m synth_dspy.evaluate`: scores in, figures out, and one sentence for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from synth_dspy import evaluate
from synth_dspy.errors import SetupError

GOOD = {"id": "a", "question": "Which law?", "references": ["Delaware"], "prediction": "Delaware"}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"id": "b", "question": "q", "references": []}, "Line 2 .* has no field 'prediction'"),
        ('{"id": ', "Line 2 .* is not JSON"),
        ("[1]", "Line 2 .* is not a JSON object"),
        (GOOD | {"references": "Delaware"}, "'references' on line 2 .* is not a list of strings"),
        (GOOD | {"label": "yes"}, "'label' on line 2 .* is not 0 or 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: object, sentence: str) -> None:
    items = lines(tmp_path / "items.jsonl", GOOD, row)
    with pytest.raises(SetupError, match=sentence):
        evaluate.main(["--items", str(items), "--scores", str(tmp_path / "scores.jsonl")])
    assert not (tmp_path / "scores.jsonl").exists()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], "Nothing to do"),
        (["--items", "none.jsonl", "--scores", "out.jsonl"], "none.jsonl cannot be read: No such file"),
        (["--items", "none.jsonl"], "name a file with --scores"),
        (["--judge", "openai/x", "--fit", "none.jsonl"], "Only the judge reference is fitted"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(args: list[str], sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        evaluate.main(args)


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="holds no lines"):
        evaluate.main(["--items", str(lines(tmp_path / "items.jsonl")), "--scores", str(tmp_path / "out.jsonl")])


def test_the_process_exits_with_status_2(tmp_path: Path, workspace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synth_dspy.evaluate", "--items", "none.jsonl", "--scores", "out.jsonl"],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr == "error: none.jsonl cannot be read: No such file or directory.\n"


@pytest.mark.slow
def test_scores_are_written_and_the_judge_is_measured(
    tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace)
    rows = [GOOD | {"label": 1}, GOOD | {"id": 2, "prediction": "It is not Delaware.", "label": 0}, GOOD | {"id": "ü"}]
    evaluate.main(["--items", str(lines(tmp_path / "items.jsonl", *rows)), "--scores", str(tmp_path / "scores.jsonl")])
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["id"] for row in scores] == ["a", 2, "ü"]
    assert scores[0]["score"] == scores[2]["score"] > 0.5 > scores[1]["score"]
    printed = capsys.readouterr().out
    assert "n 2" in printed
    assert "accuracy 1.000" in printed
    assert "Cohen's kappa 1.000" in printed
