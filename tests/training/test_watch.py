"""The callback of a training: checkpoints that are due."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from synth_dspy.training.trainers import watch as module
from synth_dspy.training.trainers.watch import SAVE_S, Watch


@pytest.mark.parametrize("save_s", [SAVE_S, None])
def test_few_long_steps_are_saved_before_the_last_one(
    save_s: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    watch = Watch(None, lambda event: None, method="grpo", folder=tmp_path, patience=0, save_s=save_s)
    saved = []
    for seconds in (20, 50, 20, 170):
        control: Any = SimpleNamespace(should_save=False)
        clock[0] += seconds
        watch.on_step_end(None, None, control)
        saved.append(control.should_save)
        if control.should_save:
            watch.on_save(None, None, control)
    assert saved == ([False, True, False, True] if save_s else [False] * 4)
