"""Children that train: one that is ready, or has trained, waits for a folder, and trains there as a new one would."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from synth_dspy.core.errors import ArmError
from synth_dspy.training.job import TrainingProcess, start_idle_worker, stop_idle_worker
from synth_dspy.training.reward_server import serving
from tests.tiny import tiny_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    stop_idle_worker()
    yield
    stop_idle_worker()


def folder(base: Path, path: Path, **settings: Any) -> Path:
    path.mkdir(parents=True)
    rows = [
        {"id": f"r{n}", "source": "", "prompt": [{"role": "user", "content": f"How long is notice {n}?"}],
         "predictor": "ask", "completion": [{"role": "assistant", "content": "thirty days"}]}
        for n in range(6)
    ]  # fmt: skip
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"method": "sft", "model": str(base), "rows": "rows.jsonl", "gguf": "F16", "parity": 0.0, "batch": 2}
    (path / "spec.json").write_text(json.dumps(spec | settings))
    return path


def children() -> list[int]:
    results_of_children = []
    for each in psutil.Process().children():
        with suppress(psutil.Error):  # a zombie
            if "synth_dspy.train" in each.cmdline():
                results_of_children.append(each.pid)
    return results_of_children


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_a_child_trains_again_as_a_new_one_would_until_it_fails(base: Path, tmp_path: Path) -> None:
    start_idle_worker()
    warm = children()
    TrainingProcess(folder(base, tmp_path / "warm")).run()
    judged = folder(base, tmp_path / "judged", method="grpo", reward="judge")
    with serving(lambda rows, replies: [float(len(text)) / 999 for text in replies], judged):
        TrainingProcess(judged).run()
    steps: list[tuple[int, int]] = []
    result = TrainingProcess(folder(base, tmp_path / "second")).run(lambda *done: steps.append(done))
    assert len(warm) == 1
    assert children() == warm
    assert steps[-1] == (3, 3)
    stop_idle_worker()
    assert children() == []

    fresh = TrainingProcess(folder(base, tmp_path / "fresh")).run()
    assert weights(tmp_path / "warm") == weights(tmp_path / "second") == weights(tmp_path / "fresh")
    assert (result["loss"], result["threads"]) == (fresh["loss"], fresh["threads"])
    assert "train_loss" in (tmp_path / "second" / "train.log").read_text()

    broken = folder(base, tmp_path / "broken")
    (broken / "rows.jsonl").write_text('{"id": "r0"}\n')
    with pytest.raises(ArmError, match=r"rows\.jsonl"):
        TrainingProcess(broken).run()
    assert children() == []


def test_a_child_is_replaced_if_it_died_or_its_surroundings_changed_and_leaves_if_it_could_not_do_the_same(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As soon as it trains: what it has is what was set when it began.
    TrainingProcess(folder(base, tmp_path / "first")).run(
        lambda *_: monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path / "home"))
    )
    first = children()
    assert first != []
    TrainingProcess(folder(base, tmp_path / "second")).run()
    (second,) = children()
    assert first != [second]

    os.kill(second, signal.SIGKILL)
    assert TrainingProcess(folder(base, tmp_path / "third", threads=1)).run()["steps"] == 3
    assert children() == []
