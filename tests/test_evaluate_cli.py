"""`python -m synth_dspy.evaluate`: scores in, figures out, and one sentence for each mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Behaviour, serving

from synth_dspy.cli import evaluate
from synth_dspy.cli.arguments import run_verb
from synth_dspy.core.errors import ModelError, SetupError

GOOD = {"id": "a", "question": "Which law?", "references": ["Delaware"], "prediction": "Delaware"}


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"id": "b", "question": "q", "references": []}, "items.jsonl, line 2: field 'prediction' is missing"),
        ('{"id": ', "line 2: is not valid JSON"),
        ("[1]", "line 2: is not a JSON object"),
        (GOOD | {"references": "Delaware"}, "line 2: field 'references' is .*; make it a list of strings"),
        (GOOD | {"label": "yes"}, "line 2: field 'label' is .*; make it 0 or 1"),
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
        (["--items", "none.jsonl"], "Name a file for the scores of"),
        (["--judge", "openai/x", "--fit", "none.jsonl"], "Only the judge reference is fitted"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(args: list[str], sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        evaluate.main(args)


def test_scores_are_not_written_over_unless_told_so(tmp_path: Path) -> None:
    scores = tmp_path / "scores.jsonl"
    scores.write_text("mine")
    args = ["--items", str(tmp_path / "none.jsonl"), "--scores", str(scores)]
    with pytest.raises(
        SetupError, match=r"scores\.jsonl exists already: name another path with --scores, or .* --force"
    ):
        evaluate.main(args)
    with pytest.raises(SetupError, match=r"none\.jsonl cannot be read"):
        evaluate.main([*args, "--force"])
    assert scores.read_text() == "mine"


def test_empty_file(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is empty"):
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
    assert done.stderr == "error: none.jsonl cannot be read: No such file or directory; check the path.\n"


def test_every_flag_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "folders of single saved programs" in shown
    for name in evaluate.EvaluateConfig.model_fields.keys() - {"runs"}:
        explained = re.search(rf"--{name.replace('_', '-')},? \S+ (.*?)\(default", shown)
        assert explained, name
        assert len(explained[1].split()) > 3, name


def test_a_model_error_is_one_message_and_other_errors_keep_their_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(error: BaseException) -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run_verb(lambda args: fail(ModelError("All 2 calls failed.")))
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: All 2 calls failed.\n"
    with pytest.raises(SystemExit) as left:
        run_verb(lambda args: fail(KeyboardInterrupt()))
    assert left.value.code == 130
    with pytest.raises(ZeroDivisionError):
        run_verb(lambda args: fail(ZeroDivisionError()))


def test_the_judges_server_is_named_by_a_flag(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    items, scores = lines(tmp_path / "items.jsonl", GOOD), tmp_path / "scores.jsonl"
    args = ["--judge", "openai/x", "--items", str(items), "--scores", str(scores)]
    reply = "[[ ## score ## ]]\n0.75\n\n[[ ## completed ## ]]"
    with serving(Behaviour(reply=reply, models=["x"])) as server:
        evaluate.main([*args, "--api-base", server.url])
    assert json.loads(scores.read_text()) == {"id": "a", "score": 0.75}
    assert len(server.requests) == 1
    scores.unlink()
    with serving(Behaviour(script=["401"])) as server, pytest.raises(SetupError, match="key"):
        evaluate.main([*args, "--api-base", server.url])
    assert [request["messages"][-1]["content"] for request in server.requests] == ["Hello"]  # the check, no grade
    assert not scores.exists()


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
