"""Weights: GGUF files, safetensors, model folders and adapters."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from inputs import damaged, json_files
from tiny import tiny_adapter, tiny_model

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.models.weights.gguf import context_length, control_tokens, open_gguf, read_header
from synth_dspy.models.weights.hf_folder import tensors_of, write_gguf
from synth_dspy.training.adapters import check_adapter, modules, read_adapter_config, scaling
from synth_dspy.training.gguf_folder import write_folder
from synth_dspy.training.merge import merge
from synth_dspy.training.unmerged import concatenate_adapters

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def gguf_file(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(model, target)
    return target


@pytest.fixture(scope="module")
def adapter(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_adapter(tmp_path_factory.mktemp("adapter"), model, targets=("q_proj",), rank=2)


def small_gguf() -> bytes:
    """Every kind of metadata and a tensor, in a few hundred bytes."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.context_length") + struct.pack("<II", 4, 1024),
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("tokenizer.ggml.token_type") + struct.pack("<IIQ2i", 9, 5, 2, 1, 3),
        text("nested") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ2B", 0, 2, 1, 2),
        text("ratio") + struct.pack("<If", 6, 0.5),
    ]
    tensors = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensors
    return head + b"\0" * (-len(head) % 32) + np.arange(8, dtype=np.float32).tobytes()


LARGE = st.sampled_from([0, 1, 2**16, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1])


@st.composite
def with_a_wild_size(draw: st.DrawFn) -> bytes:
    """A small file in which some eight bytes are another number: a count, a length, an offset or none of these."""
    data = bytearray(small_gguf())
    for _ in range(draw(st.integers(1, 2))):
        place = draw(st.integers(4, len(data) - 8))
        data[place : place + 8] = struct.pack("<Q", draw(LARGE))
    return bytes(data)


def test_gguf_headers(fuzz: Any, fresh: Callable[[], Path]) -> None:
    path = fresh() / "model.gguf"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        read_header.cache_clear() if hasattr(read_header, "cache_clear") else None
        path.touch()
        return read_header(path), control_tokens(path), open_gguf(path), context_length(path)

    assert read(small_gguf())
    fuzz(damaged(small_gguf()), read)
    fuzz(with_a_wild_size(), read)


def test_gguf_files_that_are_trained_or_merged(gguf_file: Path, fuzz: Any, fresh: Callable[[], Path]) -> None:
    path, valid = fresh() / "model.gguf", gguf_file.read_bytes()
    head = 20_000  # most of what can go wrong is before the weights

    def read(content: bytes) -> object:
        path.write_bytes(content + valid[head:])
        merge(path, [], fresh() / "merged.gguf")
        return write_folder(path, fresh())

    fuzz(damaged(valid[:head]), read)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_model_folders(name: str, model: Path, fuzz: Any, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    valid = (model / name).read_bytes()

    def read(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return write_gguf(folder, fresh() / "model.gguf")

    fuzz(json_files(json.loads(valid)), read)


def test_safetensors(adapter: Path, fuzz: Any, fresh: Callable[[], Path]) -> None:
    path, valid = fresh() / "model.safetensors", (adapter / WEIGHTS).read_bytes()

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return list(tensors_of(path))

    assert read(valid)
    fuzz(damaged(valid[:900]).map(lambda head: head + valid[900:]), read)
    fuzz(damaged(valid), read)
    size = int.from_bytes(valid[:8], "little")
    headers = json_files(json.loads(valid[8 : 8 + size]))
    fuzz(headers.map(lambda head: struct.pack("<Q", len(head)) + head + valid[8 + size :]), read)


def test_adapters(adapter: Path, fuzz: Any, fresh: Callable[[], Path]) -> None:
    folder = fresh()
    valid = {name: (adapter / name).read_bytes() for name in (CONFIG, WEIGHTS)}

    def read(files: dict[str, bytes]) -> object:
        for name, content in {**valid, "base.json": b'{"fingerprint": "x"}', **files}.items():
            (folder / name).write_bytes(content)
        config, matrices = read_adapter_config(folder), modules(folder)
        for module, (a, b) in matrices.items():
            assert (b @ a * scaling(config, module, len(a))).ndim == 2
        shapes = {f"{module}.weight": (len(b), a.shape[1]) for module, (a, b) in matrices.items()}
        concatenate_adapters([folder, adapter], fresh() / "joined")
        return check_adapter(folder, matrices, shapes, "x")

    read({})
    settings = json.loads(valid[CONFIG]) | {"alpha_pattern": {"layers.0.self_attn.q_proj": 8}, "use_rslora": True}
    fuzz(json_files(settings).map(lambda content: {CONFIG: content}), read)
    fuzz(json_files({"fingerprint": "x"}).map(lambda content: {"base.json": content}), read)
    fuzz(damaged(valid[WEIGHTS][:900]).map(lambda head: {WEIGHTS: head + valid[WEIGHTS][900:]}), read)


# -- what broke --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2**40, 2**62, 2**63, 2**64 - 1])
def test_a_key_of_any_length_is_one_sentence(size: int, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", size) + b"x")
    with pytest.raises(SetupError, match="damaged or incomplete GGUF file; fetch it again"):
        read_header(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_trained_model_that_is_cut_is_trained_again_and_not_fetched(
    share: float, gguf_file: Path, tmp_path: Path
) -> None:
    valid = gguf_file.read_bytes()
    path = tmp_path / "model.gguf"
    path.write_bytes(valid[: int(share * len(valid))])
    for call in (read_header, open_gguf, context_length):
        with pytest.raises(SetupError) as error:
            call(path)
        assert "train again" not in str(error.value)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(
        SetupError, match=r"copy the run's folder whole, or remove .* and train again with --resume"
    ) as error:
        read_header(path)
    assert "fetch" not in str(error.value)


def test_an_adapters_pattern_names_modules_and_nothing_that_takes_for_ever(adapter: Path, tmp_path: Path) -> None:
    settings = json.loads((adapter / CONFIG).read_text())
    (tmp_path / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes())
    for pattern in ("(.*)*x", "(a+)+$", "q_proj("):
        (tmp_path / CONFIG).write_text(json.dumps({**settings, "alpha_pattern": {pattern: 8}}))
        with pytest.raises(ArmError, match="not a module name"):
            read_adapter_config(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps({**settings, "alpha_pattern": {r"layers\.0.self_attn.q_proj": 8}}))
    assert scaling(read_adapter_config(tmp_path), "model.layers.0.self_attn.q_proj", 2) == 4.0
