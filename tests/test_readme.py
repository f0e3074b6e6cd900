"""What the README and docs/training.md show is true: an example about a held-out contract, with a right answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from synth_dspy.cli import compile as cli

EXAMPLE = re.compile(
    r'load\("runs/contract_qa/<id>/programs/(?P<arm>\w+)"\)\n'
    r'    program\(question="(?P<question>[^"]+)", document="(?P<document>\w+)"\)\.answer +# \'(?P<answer>[^\']+)\''
)


@pytest.mark.slow
def test_the_example_answers_a_held_out_question_rightly(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the untuned arm, which needs no training; tuned ones answer it in fewer words."""
    from synth_dspy import load
    from synth_dspy.evaluation.judges import ReferenceJudge
    from synth_dspy.models.embedder import EmbeddedEmbedder

    example = EXAMPLE.search((workspace / "README.md").read_text(encoding="utf-8"))
    assert example is not None
    flags = ["--evaluation.arms", "rag", "--synthesis.candidates", "0", "--retention.prompts", "0"]
    flags += ["--evaluation.held-out", "8"]
    monkeypatch.chdir(workspace)
    cli.main(["contract_qa", *flags, "--runs", str(tmp_path)])
    (run,) = tmp_path.glob("contract_qa/*/results.json")
    held_out = [json.loads(line) for line in (run.parent / "datasets" / "test.jsonl").read_text().splitlines()]
    assert example["document"] in {row["document"] for row in held_out}
    labelled = (workspace / "data" / "contracts" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    asked = (example["question"], example["document"])
    items = [row for row in map(json.loads, labelled) if (row["question"], row["document"]) == asked]
    assert [row["references"][0] for row in items] == [example["answer"]]
    program = load(run.parent / "programs" / "rag", workspace=workspace)
    answer = program(question=example["question"], document=example["document"]).answer
    judged = ReferenceJudge(EmbeddedEmbedder()).score_many([{**items[0], "prediction": answer, "abstained": False}])
    assert judged[0] >= 0.5, answer


@pytest.mark.slow
def test_the_fine_tuning_lines_run_as_they_stand(workspace: Path, tmp_path: Path) -> None:
    """They end with two tuned models: on every CPU, although so short a training leaves many tokens nearly equal."""
    text = (workspace / "docs" / "training.md").read_text(encoding="utf-8")
    block = text[text.index("    from synth_dspy import LocalProvider, lm_for") :].split("\n\nWhat was tuned", 1)[0]
    code = textwrap.dedent(block) + "\nprint(tuned.model, better.model)\n"
    environment = {**os.environ, "SYNTH_DSPY_HOME": str(_home_with_weights(tmp_path))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tuned, better = done.stdout.split()[-2:]
    assert re.search(r"sft-[0-9a-f]{16}", tuned)
    assert re.search(r"dpo-[0-9a-f]{16}", better)


def _home_with_weights(folder: Path) -> Path:
    """A cache of its own with the fetched weights in it: the training is not to be found in the user's."""
    from synth_dspy.core.cache import cache_home

    home = folder / "home"
    home.mkdir()
    for name in ("weights", "models"):
        if (cache_home() / name).exists():
            (home / name).symlink_to(cache_home() / name)
    return home
