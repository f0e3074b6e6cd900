"""GGUF files: headers read, unreadable tensor types converted once, damaged files named."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.models.weights.gguf import READABLE_TYPES, context_length, open_gguf, read_header, readable

Types = gguf.GGMLQuantizationType


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SYNTH_DSPY_HOME", str(tmp_path / "home"))


def _write(
    path: Path, kinds: dict[str, Types], columns: int = 64, *, template: str = "{{ messages }}"
) -> dict[str, np.ndarray]:
    """A file with one tensor per kind and metadata of every sort; returns the values as float32."""
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "né", "x" * 300])
    writer.add_array("tokenizer.ggml.token_type", [3, 1, 1])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0, 2.0])
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_chat_template(template)
    values = {}
    for name, kind in kinds.items():
        data = gguf.quants.quantize(rng.normal(size=(8, columns)).astype(np.float32), kind)
        values[name] = gguf.quants.dequantize(data, kind)
        if kind == Types.F32:
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def test_header_tells_context_and_types(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    _write(path, {"a": Types.F32, "b": Types.Q5_0})
    assert context_length(path) == 2048
    assert read_header(path).tensor_types == {"a": Types.F32, "b": Types.Q5_0}
    assert read_header(path).values == {Types.F32: 8 * 64, Types.Q5_0: 8 * 64}
    assert read_header(path).metadata["tokenizer.chat_template"] == "{{ messages }}"


def test_files_with_one_tokenizer_are_told_from_others(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf")]
    _write(paths[0], {"a": Types.F32})
    _write(paths[1], {"a": Types.F32, "b": Types.Q8_0})
    _write(paths[2], {"a": Types.F32}, template="{{ messages[0] }}")
    first, same, other = (read_header(path).tokenizer for path in paths)
    assert first == same != other


def test_a_readable_file_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    _write(path, {"a": Types.F32, "b": Types.Q8_0, "c": Types.Q4_0})
    assert readable(path) == path


def test_unreadable_types_become_q8_0_once(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    # Q4_1 is read, but with its offsets rounded.
    values = _write(path, {"a": Types.F32, "b": Types.Q5_0, "c": Types.Q8_0, "d": Types.Q4_1})
    converted = readable(path)
    assert converted != path
    assert converted.suffix == ".gguf"
    header = read_header(converted)
    assert set(header.tensor_types.values()) <= READABLE_TYPES
    assert header.tensor_types["b"] == Types.Q8_0
    before, after = gguf.GGUFReader(path), gguf.GGUFReader(converted)
    for name, field in before.fields.items():
        if not name.startswith("GGUF."):
            assert after.fields[name].contents() == field.contents(), name
    for tensor in after.tensors:
        dequantized = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        # Q8_0 rounds to 1/127 of a block's largest value, which here is below 5.
        np.testing.assert_allclose(dequantized, values[tensor.name], atol=0.02, err_msg=tensor.name)
    written = converted.stat().st_mtime_ns
    assert readable(path) == converted
    assert converted.stat().st_mtime_ns == written


@pytest.mark.parametrize("keep", [3, 40, 200, -40])
def test_damaged_files_are_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "m.gguf"
    _write(path, {"a": Types.F32, "b": Types.Q8_0})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SetupError, match=r"m\.gguf is (cut short|a damaged|not a GGUF)"):
        read_header(path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="is not a model folder"):
        readable(tmp_path)


def test_a_folder_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SetupError, match=r"BertModel.*can be served"):
        readable(tmp_path)


def test_a_file_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    _write(path, {"a": Types.F32, "b": Types.F16, "c": Types.Q8_0})
    ours, theirs = open_gguf(path), gguf.GGUFReader(path)
    assert [(key, field.contents(), field.types) for key, field in ours.fields.items()] == [
        (key, field.contents(), field.types) for key, field in theirs.fields.items()
    ]
    for mine, its in zip(ours.tensors, theirs.tensors, strict=True):
        assert (mine.name, mine.tensor_type, mine.data_offset) == (its.name, its.tensor_type, its.data_offset)
        assert np.array_equal(mine.data, its.data)
