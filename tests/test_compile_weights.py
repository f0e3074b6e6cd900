"""`compile` with tuned arms, whole, on a tiny real model: trained, merged, served, compared, killed and resumed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import synth_dspy
from synth_dspy.cli import compile as cli
from synth_dspy.core.ledger import Ledger
from synth_dspy.models.embedded.pool import pool
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tiny_model(tmp_path_factory.mktemp("tiny") / "tiny")
    pool().close()


def toss_ups(folder: Path) -> Path:
    """Settings under which a random model's babble, all near ties, passes: its parity is not what is tested here."""
    path = folder / "run.toml"
    path.write_text("".join(f"[training.options.{method}]\nparity = 0.0\n" for method in ("sft", "dpo")))
    return path


def start(base: Path, runs: Path, *args: str) -> subprocess.Popen[str]:
    model = f"embedded/{base}"
    options = ["--models.student", model, "--models.teacher", model, "--synthesis.candidates", "0", "--words", "30"]
    options += ["--quick", "--evaluation.held-out", "6", "--evaluation.validation", "4"]
    options += ["--evaluation.arms", "sft", "dpo", "--config", str(toss_ups(runs.parent))]
    return subprocess.Popen(
        [sys.executable, "-m", "synth_dspy.compile", "contract_qa", *(args or options), "--runs", str(runs)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_tuned_arms_are_killed_in_dpo_resumed_compared_loaded_and_moved(tmp_path: Path, tiny: Path) -> None:
    base, runs = tiny, tmp_path / "runs"
    process = start(base, runs)
    try:
        ends = time.monotonic() + 300
        while not (begun := list(runs.glob("contract_qa/*/adapters/dpo-*/train.log"))):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < ends
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    run = begun[0].parents[2]
    assert not (run / "results.json").exists()
    (sft,) = run.glob("adapters/sft-*/result.json")
    trained = sft.stat().st_mtime_ns

    resumed = start(base, runs, "--resume", run.name)
    out, err = resumed.communicate(timeout=400)
    assert resumed.returncode == 0, err
    assert sft.stat().st_mtime_ns == trained  # what was trained is not trained again

    results = json.loads((run / "results.json").read_text())
    arms = {arm["name"]: arm for arm in results["arms"]}
    assert list(arms) == ["rag", "sft", "dpo"]
    assert all(arm["failed"] is None and arm["n"] == 6 for arm in arms.values())
    pairs = {(c["arm"], c["against"]) for c in results["comparisons"]}
    assert pairs == {("sft", "rag"), ("dpo", "rag"), ("dpo", "sft")}
    assert set(arms["sft"]["training"]["by_origin"]) == {"gold"}
    parity = arms["dpo"]["training"]["parity"]
    assert (parity["n"], parity["held_out"]) == (8, 4)
    assert arms["dpo"]["training"]["adapters"] == [sft.parent.name]
    assert "dpo" in out

    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    row = next(row for row in rows if row["arm"] == "dpo")
    program = synth_dspy.load(run / "programs" / "dpo", workspace=ROOT)
    (dpo,) = run.glob("adapters/dpo-*")
    assert {Path(predictor.lm.model.removeprefix("embedded/")).parent for predictor in program.predictors()} == {dpo}
    assert isinstance(program(question=row["question"], document=row["group"]).answer, str)
    pool().close()

    # Moved elsewhere, where its tuned models have other paths, it asks nothing and trains nothing.
    moved = Path(shutil.copytree(run, tmp_path / "elsewhere" / "contract_qa" / run.name))
    runs.rename(tmp_path / "gone")
    before = calls(moved)
    trained_files = {path: path.stat().st_mtime_ns for path in moved.glob("adapters/*/*")}
    again = start(base, tmp_path / "elsewhere", "--resume", run.name)
    _, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    assert calls(moved) == before
    assert {path: path.stat().st_mtime_ns for path in moved.glob("adapters/*/*")} == trained_files
    gone = tmp_path / "gone" / "contract_qa" / run.name
    assert (moved / "results.json").read_bytes() == (gone / "results.json").read_bytes()
    assert not runs.exists()


def test_an_arm_whose_training_changes_nothing_is_the_arm_that_it_began_with(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    model = f"embedded/{tiny}"
    options = ["--models.student", model, "--models.teacher", model, "--synthesis.candidates", "0", "--words", "30"]
    options += ["--quick", "--evaluation.held-out", "6", "--evaluation.validation", "4", "--retention.prompts", "0"]
    options += ["--evaluation.arms", "sft", "dpo", "--config", str(toss_ups(tmp_path))]
    cli.main(
        ["contract_qa", *options, "--training.options.dpo.learning_rate", "1e-9", "--runs", str(tmp_path / "runs")]
    )
    (folder,) = (tmp_path / "runs").glob("contract_qa/2*")
    arms = {arm["name"]: arm for arm in json.loads((folder / "results.json").read_text())["arms"]}
    assert arms["dpo"]["same_as"] == "sft"
    assert arms["dpo"]["discarded"]["training"]["method"] == "dpo"
    assert arms["dpo"]["training"] == arms["sft"]["training"]
    assert "dpo = sft: its training changed no answer and was discarded" in (folder / "report.md").read_text()


def calls(run: Path) -> list[str]:
    with Ledger(run / "ledger.sqlite") as ledger:
        return [call.key for call in ledger.calls()]


@pytest.mark.parametrize(
    ("task", "method", "reward"),
    [
        ("contract_qa", "grpo", ""),
        ("function_calling", "online_dpo", ""),
        ("scoped_assistant", "rloo", ""),
        ("table_docs", "grpo", 'reward = "judge"\n'),
    ],
)
def test_every_task_is_rewarded_by_its_judge_and_goes_from_prompt_to_weights_to_prompt(
    task: str, method: str, reward: str, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    model = f"embedded/{tiny}"
    config = tmp_path / "run.toml"
    loose = "parity = 0.0\nlearning_rate = 0.01\ncompletion_tokens = 8\ngenerations = 2\nexamples = 16\n"
    config.write_text("".join(f"[training.options.{name}]\n{loose}" for name in ("sft", "dpo", method)) + reward)
    options = ["--models.student", model, "--models.teacher", model, "--synthesis.candidates", "0", "--words", "30"]
    options += ["--quick", "--evaluation.held-out", "4", "--evaluation.validation", "4", "--config", str(config)]
    cli.main([task, *options, "--runs", str(tmp_path / "runs"), "--evaluation.arms", method, "together"])
    (results,) = (tmp_path / "runs").glob("*/*/results.json")
    arms = {arm["name"]: arm for arm in json.loads(results.read_text())["arms"]}
    assert arms[method]["failed"] is None
    assert list(results.parent.glob(f"adapters/{method}-*/result.json"))
    assert not list(results.parent.glob(f"adapters/{method}-*/reward.json"))
    together = arms["together"]["failed"]  # a tiny model's answers may all be as bad: then there are no pairs
    assert together is None or "no rows to train on with dpo" in together
