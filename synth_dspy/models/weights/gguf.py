"""GGUF files: reading headers, and converting tensor types that the server cannot read.

OpenVINO reads GGUF directly, but not every type of tensor: an ordinary Q4_K_M file may hold Q5_0 blocks. Such tensors
are converted to Q8_0 once (a finer type, so only space is lost), and the new file is cached.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.models.weights.cache import kept

MAGIC = b"GGUF"
# Scalar types of GGUF metadata, by their number in the format; 8 is a string, 9 an array.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_LARGE = 1 << 16  # bytes; smaller sizes are not checked against the file's
_CONTROL = 3  # GGUF's type of hidden tokens
# Tensor types that OpenVINO GenAI 2026.4 reads as they are: F32, F16, Q4_0, Q8_0, Q6_K. It reads Q4_1 and Q4_K too, but
# rounds the offset of every block to a whole number of steps, which is as coarse as the quantisation itself: SmolLM2's
# perplexity on general text is 30.9 so, and 24.9 with the values that the file holds.
READABLE_TYPES = frozenset({0, 1, 2, 8, 14})
_F32, F16, _Q8_0 = 0, 1, 8
WHOLE_TYPES = frozenset({_F32, F16})
"""Unquantised types, without blocks and scales."""
_ALL_F32, _MOSTLY_F16, _MOSTLY_Q8_0 = 0, 1, 7  # values of:
_FILE_TYPE = "general.file_type"
_Q8_BLOCK = 32  # a row whose length is not a multiple of it stays F16
Values = Callable[[Any], Any]
"""Maps a tensor of a file (`gguf.ReaderTensor`) to its new float32 values."""
Change = Callable[[Any], tuple[int, Values] | None]
"""Maps a tensor of a file to its new type and values, or None to leave it as it is."""


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a GGUF file.

    Attributes:
        metadata: Scalars; arrays are left out.
        tensor_types: Types by the tensors' names, as GGUF's numbers.
        values: Total number of values by type.
        tokenizer: A digest of the tokenizer's metadata.
    """

    metadata: dict[str, Any]
    tensor_types: dict[str, int]
    values: dict[int, int]
    tokenizer: str


def read_header(path: Path) -> Header:
    """Read the metadata and tensor types without touching the weights.

    Raises:
        SetupError: `path` is not a GGUF file, or is cut short.
    """
    try:
        stat = path.stat()
        return _read_header(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or error}; check the path.") from error


@lru_cache(maxsize=16)
def _read_header(path: Path, size: int, _modified: int) -> Header:
    """`read_header` of a file as it is now; walking over a large vocabulary takes a second."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise SetupError(f"{path} is not a GGUF file; name a GGUF file or a model folder{_trained(path)}")
            version, tensors, pairs = _unpack(file, "<IQQ")
            if version < 2:
                raise SetupError(f"{path} is GGUF version {version}; versions 2 and 3 can be read")
            metadata = {}
            tokenizer = hashlib.sha256()
            for _ in range(pairs):
                key = _string(file)
                kind, begin = _unpack(file, "<I")[0], file.tell()
                value = _value(file, kind)
                if value is not None:
                    metadata[key] = value
                if key.startswith("tokenizer."):
                    size_of_value = file.tell() - begin
                    file.seek(begin)
                    tokenizer.update(f"{key}:{size_of_value}:".encode() + _take(file, size_of_value))
            types = {}
            values: Counter[int] = Counter()
            end = 0
            for _ in range(tensors):
                name = _string(file)
                (dimensions,) = _unpack(file, "<I")
                if dimensions > _MOST_DIMENSIONS:
                    raise ValueError("a tensor of too many dimensions")
                shape = _unpack(file, f"<{dimensions}Q")
                types[name], offset = _unpack(file, "<IQ")
                values[types[name]] += math.prod(shape)
                end = max(end, offset + _size(shape, types[name]))
            alignment = metadata.get("general.alignment", 32)
            if type(alignment) is not int or alignment <= 0:
                raise ValueError("an invalid alignment")
            complete = -(-file.tell() // alignment) * alignment + end if end else file.tell()
    except (struct.error, ValueError, KeyError, RecursionError) as error:
        raise SetupError(f"{path} is a damaged or incomplete GGUF file; {_remedy(path)}") from error
    if size < complete:  # OpenVINO would read past its end, and crash
        raise SetupError(f"{path} is cut short ({size:,} of {complete:,} bytes); {_remedy(path)}")
    return Header(metadata, types, dict(values), tokenizer.hexdigest())


def _remedy(path: Path) -> str:
    return _trained(path).removeprefix("; ") or "fetch it again"


def _trained(path: Path) -> str:
    """Advice about a damaged model from a training, which cannot be fetched again; empty for any other model."""
    if not (path.parent / "spec.json").is_file():
        return ""
    return f"; copy the run's folder whole, or remove {path.parent} and train again with --resume"


def control_tokens(path: Path) -> frozenset[int]:
    """The ids of a GGUF file's control tokens, which are not part of a reply's text."""
    with path.open("rb") as file:
        file.seek(len(MAGIC))
        _, _, pairs = _unpack(file, "<IQQ")
        for _ in range(pairs):
            key, kind = _string(file), _unpack(file, "<I")[0]
            if key == "tokenizer.ggml.token_type":
                inner, count = _unpack(file, "<IQ")
                if inner not in _SCALARS:
                    break
                kinds = _unpack(file, f"<{count}{_SCALARS[inner][1:]}")
                return frozenset(index for index, each in enumerate(kinds) if each == _CONTROL)
            _value(file, kind)
    return frozenset()


def context_length(path: Path) -> int:
    """The context window, in tokens, of a GGUF file or of an OpenVINO model folder (its config.json)."""
    if path.is_dir():
        length = read_json_object(path / "config.json", "The model's").get("max_position_embeddings")
    else:
        metadata = read_header(path).metadata
        length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    if type(length) is not int or length < 1:
        raise SetupError(f"{path} does not state its context length; name another copy of the model")
    return length


def readable(path: Path) -> Path:
    """A model that the server can read: `path`, or a cached GGUF copy of it with supported types only.

    Args:
        path: A GGUF file, a Hugging Face folder, or an OpenVINO model folder.

    Raises:
        SetupError: The model cannot be served, or the copy cannot be written.
    """
    if path.is_dir():
        if (path / "openvino_model.xml").exists():
            return path
        from synth_dspy.models.weights.hf_folder import write_gguf

        return cached_copy(path / "config.json", f"{path.name}-f16", lambda part: write_gguf(path, part))
    header = read_header(path)
    if set(header.tensor_types.values()) <= READABLE_TYPES:
        return path
    return cached_copy(path, f"{path.stem}-exact", lambda part: _convert(path, part))


def cached_copy(source: Path, name: str, write: Callable[[Path], None], *, suffix: str = ".gguf") -> Path:
    """A converted copy of a model (a GGUF file, or a folder), which `write` makes unless it is cached.

    Args:
        source: The model's file, or its config.json; the cache key depends on it.
        name: The copy's name, to which a key is appended.
        write: Called with the path to write.
        suffix: The copy's suffix.

    Raises:
        SetupError: There is no `source`, or the disk is full.
    """
    if not source.is_file():
        raise SetupError(f"{source.parent} is not a model folder: it has no {source.name}; name a GGUF file or one")
    # The key depends on every file of a model folder.
    parts = sorted(source.parent.glob("*")) if source.name == "config.json" else [source]
    stats = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in parts if p.is_file()]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]
    return kept(f"{name}-{key}{suffix}", write)


def _convert(source: Path, target: Path) -> None:
    """Write `source` again with the unreadable tensors as Q8_0."""
    rewrite(
        open_gguf(source),
        target,
        lambda tensor: None if tensor.tensor_type in READABLE_TYPES else (_Q8_0, values_of),
    )


def open_gguf(path: Path) -> Any:
    """A `gguf.GGUFReader`, four times as fast as the library's at reading a vocabulary.

    Raises:
        SetupError: `path` is not a GGUF file, or a damaged one.
    """
    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):
        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            # The library slices a memory map, which costs more than reading the values.
            values = np.frombuffer(self.data, dtype, int(count), int(offset))
            return values.view(values.dtype.newbyteorder(override_order or self.byte_order))

        def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
            if raw_type != _ARRAY or self._get(orig_offs, np.uint32)[0] != _STRING:
                return super()._get_field_parts(orig_offs, raw_type)
            parts = [self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)]
            offset, length = orig_offs + 12, np.dtype(np.uint64).newbyteorder(self.byte_order)
            for _ in range(int(parts[1][0])):
                size = np.frombuffer(self.data, length, 1, offset)
                parts += size, np.frombuffer(self.data, np.uint8, int(size[0]), offset + 8)
                offset += 8 + int(size[0])
            kinds = [gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.STRING][: 1 + (len(parts) > 2)]
            return offset - orig_offs, parts, list(range(3, len(parts), 2)), kinds

    read_header(path)
    try:
        return Reader(path)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise SetupError(f"{path} is a damaged GGUF file ({error}); {_remedy(path)}") from error


def values_of(tensor: Any) -> Any:
    """A tensor's values as a float32 array, dequantised; [rows, columns] for a matrix."""
    import gguf
    import numpy as np

    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)


def rewrite(reader: Any, target: Path, change: Change, metadata: Mapping[str, Any] | None = None) -> None:
    """Copy a GGUF file with some tensors changed.

    The same input gives the same bytes. One tensor is in memory at a time, so that any model can be rewritten.

    Args:
        reader: The file, from `open_gguf`.
        target: The file to write; the caller must remove it after an error.
        change: Called with each tensor (`gguf.ReaderTensor`); returns None to copy it, or its new type and a function
            of its new values. A matrix whose rows do not divide into Q8_0's blocks becomes F16 instead.
        metadata: New values of existing keys.
    """
    import gguf

    replaced = metadata or {}
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents(), use_temp_file=False)
    try:
        for key, field in reader.fields.items():
            # The writer sets the first two itself.
            if key.startswith("GGUF.") or key in ("general.architecture", _FILE_TYPE):
                continue
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, replaced.get(key, field.contents()), kind, sub_type=inner)
        plans = [(tensor, _plan(tensor, change(tensor))) for tensor in reader.tensors]
        stated = reader.fields.get(_FILE_TYPE)
        writer.add_file_type(_file_type(stated and int(stated.contents()), [int(kind) for _, (kind, _) in plans]))
        for tensor, (kind, values) in plans:
            shape, dtype, size = tensor.data.shape, tensor.data.dtype, tensor.n_bytes
            if values is not None:
                shape, dtype, size = _layout(tensor, kind)
            writer.add_tensor_info(tensor.name, shape, dtype, size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor, (kind, values) in plans:
            writer.write_tensor_data(gguf.quants.quantize(values(tensor), kind) if values else tensor.data)
        writer.flush()
    except BaseException:
        with suppress(OSError):  # a full disk complains again
            writer.close()
        raise
    writer.close()


def _file_type(stated: int | None, kinds: Sequence[int]) -> int:
    """The file type for the metadata: OpenVINO only looks for scales if it is a quantised one."""
    quantised = not WHOLE_TYPES.issuperset(kinds)
    if stated is None or (quantised and stated in (_ALL_F32, _MOSTLY_F16)):
        return _MOSTLY_Q8_0 if quantised else _MOSTLY_F16
    return stated


def _plan(tensor: Any, change: tuple[int, Values] | None) -> tuple[Any, Values | None]:
    """A tensor's type in the new file, and the function of its values (None: copied)."""
    import gguf

    if change is None:
        return tensor.tensor_type, None
    kind, values = change
    if kind == _Q8_0 and int(tensor.shape[0]) % _Q8_BLOCK:
        kind = F16
    return gguf.GGMLQuantizationType(kind), values


def _layout(tensor: Any, kind: Any) -> tuple[tuple[int, ...], Any, int]:
    """Shape and dtype of the array for a tensor of type `kind`, and its size in bytes."""
    import gguf
    import numpy as np

    rows = tuple(int(n) for n in reversed(tensor.shape))
    if kind == F16:
        return rows, np.dtype(np.float16), 2 * math.prod(rows)
    shape = gguf.quant_shape_to_byte_shape(rows, kind)
    return shape, np.dtype(np.uint8), math.prod(shape)


def _size(shape: tuple[int, ...], kind: int) -> int:
    """Bytes of a tensor."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return math.prod(shape) // int(block) * int(size)


def _take(file: BinaryIO, size: int) -> bytes:
    return file.read(_checked(file, size))


def _skip(file: BinaryIO, size: int) -> None:
    file.seek(_checked(file, size), os.SEEK_CUR)


def _checked(file: BinaryIO, size: int) -> int:
    """Check a size that a file states: in a damaged file it may exceed any memory."""
    if size > _LARGE and size > os.fstat(file.fileno()).st_size - file.tell():
        raise ValueError("it ends too early")
    return size


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    return _take(file, length).decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    """A metadata value; None for an array, which is skipped."""
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _unpack(file, _SCALARS[kind])[0]
    inner, count = _unpack(file, "<IQ")
    if inner == _STRING:
        for _ in range(count):
            _skip(file, _unpack(file, "<Q")[0])
    elif inner == _ARRAY:
        for _ in range(count):
            _value(file, _ARRAY)
    else:
        _skip(file, count * struct.calcsize(_SCALARS[inner]))
    return None
