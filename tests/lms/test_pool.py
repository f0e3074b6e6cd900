"""What all loaded models may take together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from synth_dspy.errors import SetupError
from synth_dspy.lms import pool
from synth_dspy.lms.pool import GIB, MEMORY, ModelPool


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 64 GiB, and the folder in which its kernel says what a container may have."""
    monkeypatch.delenv(MEMORY, raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GIB))
    monkeypatch.setattr(pool, "_CGROUP", tmp_path)
    return tmp_path


def test_models_may_take_an_eighth_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ModelPool().memory_gib == 8
    assert ModelPool(5).memory_gib == 5
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4 * GIB))
    assert ModelPool().memory_gib == 3


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_what_it_may_have(machine: Path, name: str) -> None:
    (machine / name).parent.mkdir(exist_ok=True)
    for limit, share in ((f"{40 * GIB}\n", 5), (f"{1 << 63}\n", 8), ("max\n", 8)):
        (machine / name).write_text(limit)
        assert ModelPool().memory_gib == share


def test_the_environment_goes_first_and_says_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY, "2.5")
    assert ModelPool().memory_gib == 2.5
    monkeypatch.setenv(MEMORY, "much")
    with pytest.raises(SetupError, match=rf"{MEMORY} is 'much': set it to a number of GiB"):
        ModelPool()
