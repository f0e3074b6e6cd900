"""What all loaded models may take together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import psutil
import pytest

from synth_dspy.core import memory
from synth_dspy.core.errors import SetupError
from synth_dspy.models.embedded import pool
from synth_dspy.models.embedded.generation import ServerSettings
from synth_dspy.models.embedded.pool import GIB, MEMORY, ModelPool, estimate_gib

Types = gguf.GGMLQuantizationType


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 48 GiB, and the folder in which its kernel says what a container may have."""
    monkeypatch.delenv(MEMORY, raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=48 * GIB))
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    return tmp_path


def default_student(path: Path, blocks: gguf.GGMLQuantizationType) -> Path:
    """A GGUF file as large as SmolLM2-135M with blocks of a type, all holes but for its header."""
    writer = gguf.GGUFWriter(path, "llama")
    size = 0
    for name, rows, kind in (("token_embd.weight", 49_152, Types.Q8_0), ("blk.0.ffn_up.weight", 184_320, blocks)):
        block, stored = gguf.GGML_QUANT_SIZES[kind]
        length = rows * 576 // block * stored
        shape = (rows, 576) if kind == Types.F16 else (rows, 576 // block * stored)
        writer.add_tensor_info(name, shape, np.dtype(np.float16 if kind == Types.F16 else np.uint8), length, kind)
        size += length
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size + 64)
    return path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers without models."""
    stub = SimpleNamespace(alive=True, close=lambda: None)
    monkeypatch.setattr(pool, "ModelServer", lambda *_, **__: stub)


def test_models_may_take_a_sixth_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ModelPool().memory_gib == 8
    assert ModelPool(5).memory_gib == 5
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=4 * GIB))
    assert ModelPool().memory_gib == 4.5


def test_a_model_is_estimated_at_what_it_was_seen_to_take(tmp_path: Path) -> None:
    settings = ServerSettings(kv_cache_gib=2)
    for blocks, weights in ((Types.Q8_0, 0.52), (Types.F16, 1.1)):
        path = default_student(tmp_path / f"{blocks.name}.gguf", blocks)
        assert estimate_gib(path, settings) == pytest.approx(weights + 2, abs=0.02)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "openvino_model.xml").touch()
    (tmp_path / "folder" / "openvino_model.bin").write_bytes(bytes(1 << 20))
    assert estimate_gib(tmp_path / "folder", settings) == 2.25 + 2 / 1024


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("memory", [8, 24, 32])
def test_two_tuned_students_stay_loaded_on_a_small_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory * GIB))
    models = ModelPool()
    kinds = {"plain": Types.Q8_0, "sft": Types.F16, "dpo": Types.F16, "orpo": Types.F16}
    paths = {name: str(default_student(tmp_path / f"{name}.gguf", kind)) for name, kind in kinds.items()}
    requested = ["plain", "sft", "dpo", "sft", "orpo", "plain"]
    loaded = []
    for name in requested:
        with models.lease(paths[name]):
            loaded.append([Path(each).stem for each in models.loaded()])
    two = [["plain", "sft"], ["sft", "dpo"], ["dpo", "sft"], ["sft", "orpo"], ["orpo", "plain"]]
    assert loaded == [["plain"], *two]


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_what_it_may_have(machine: Path, name: str) -> None:
    (machine / name).parent.mkdir(exist_ok=True)
    for limit, share in ((f"{30 * GIB}\n", 5), (f"{1 << 63}\n", 8), ("max\n", 8)):
        (machine / name).write_text(limit)
        assert ModelPool().memory_gib == share


def test_the_environment_goes_first_and_says_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEMORY, "2.5")
    assert ModelPool().memory_gib == 2.5
    monkeypatch.setenv(MEMORY, "much")
    with pytest.raises(SetupError, match=rf"{MEMORY} is 'much': set it to a number of GiB"):
        ModelPool()
