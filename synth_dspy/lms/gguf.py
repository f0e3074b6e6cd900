"""GGUF files: what the server must know of one, and the conversion of what its reader lacks.

OpenVINO reads GGUF directly, but not every type of tensor: an ordinary Q4_K_M file may hold Q5_0 blocks. Such tensors
are turned into Q8_0 once (a finer type: nothing is lost but space), and the new file is cached beside the weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from synth_dspy.errors import SetupError

MAGIC = b"GGUF"
# Scalar types of GGUF metadata, by their number in the format; 8 is a string, 9 an array.
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
# Tensor types that OpenVINO GenAI 2026.4 reads: F32, F16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K.
READABLE_TYPES = frozenset({0, 1, 2, 3, 8, 12, 14})
_Q8_BLOCK = 32  # a row whose length is no multiple of it stays F16
_CONVERTED = "converted"


@dataclass(frozen=True, slots=True)
class Header:
    """A GGUF file's scalar metadata (arrays are left out) and the types of its tensors."""

    metadata: dict[str, Any]
    tensor_types: dict[str, int]


def read_header(path: Path) -> Header:
    """Read the metadata and tensor types without touching the weights.

    Raises:
        SetupError: `path` is not a GGUF file, or is cut short.
    """
    stat = path.stat()
    return _read_header(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _read_header(path: Path, size: int, _modified: int) -> Header:
    """`read_header` of a file as it is now; walking over a large vocabulary takes a second."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise SetupError(f"{path} is not a GGUF file; name a GGUF file or a model folder")
            version, tensors, pairs = _unpack(file, "<IQQ")
            if version < 2:
                raise SetupError(f"{path} is GGUF version {version}; versions 2 and 3 can be read")
            metadata = {}
            for _ in range(pairs):
                key = _string(file)
                value = _value(file, _unpack(file, "<I")[0])
                if value is not None:
                    metadata[key] = value
            types = {}
            end = 0
            for _ in range(tensors):
                name = _string(file)
                (dimensions,) = _unpack(file, "<I")
                shape = _unpack(file, f"<{dimensions}Q")
                types[name], offset = _unpack(file, "<IQ")
                end = max(end, offset + _size(shape, types[name]))
            alignment = metadata.get("general.alignment", 32)
            complete = -(-file.tell() // alignment) * alignment + end
    except (struct.error, ValueError, KeyError, OverflowError) as error:
        raise SetupError(f"{path} is a damaged or incomplete GGUF file; fetch it again") from error
    if size < complete:  # OpenVINO would read past its end, and crash
        raise SetupError(f"{path} is cut short ({size:,} of {complete:,} bytes); fetch it again")
    return Header(metadata, types)


def context_length(path: Path) -> int:
    """The context window, in tokens, of a GGUF file or of an OpenVINO model folder (its config.json)."""
    if path.is_dir():
        config = json.loads((path / "config.json").read_text())
        return int(config["max_position_embeddings"])
    metadata = read_header(path).metadata
    return int(metadata[f"{metadata['general.architecture']}.context_length"])


def readable(path: Path) -> Path:
    """What the server's reader can read: `path`, or a cached GGUF copy of it that holds only types it knows.

    Args:
        path: A GGUF file, a Hugging Face folder, or an OpenVINO model folder.

    Raises:
        SetupError: It is no model that can be served, or the copy cannot be written.
    """
    if path.is_dir():
        if (path / "openvino_model.xml").exists():
            return path
        from synth_dspy.lms.hf_folder import write_gguf

        return _cached_copy(path / "config.json", f"{path.name}-f16", lambda part: write_gguf(path, part))
    header = read_header(path)
    if set(header.tensor_types.values()) <= READABLE_TYPES:
        return path
    return _cached_copy(path, f"{path.stem}-q8_0", lambda part: _convert(path, part))


def _cached_copy(source: Path, name: str, write: Callable[[Path], None]) -> Path:
    """The GGUF file that `write` makes of a model, made now unless it is cached. `source` tells whether it changed."""
    from synth_dspy.lms.fetch import cache_home, exclusive, publish

    if not source.is_file():
        raise SetupError(f"{source.parent} is not a model folder: it has no {source.name}; name a GGUF file or one")
    # Any file of a model folder that changed makes another key.
    parts = sorted(source.parent.glob("*")) if source.name == "config.json" else [source]
    stats = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in parts if p.is_file()]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]
    target = cache_home() / _CONVERTED / f"{name}-{key}.gguf"
    with exclusive(target):
        if not target.exists():
            with publish(target) as part:
                write(part)
    return target


def _convert(source: Path, target: Path) -> None:
    """Write `source` again with the unreadable tensors as Q8_0, the others and all metadata unchanged."""
    import gguf
    import numpy as np

    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture, use_temp_file=False)
    for key, field in reader.fields.items():
        # The writer sets these itself.
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, sub_type=inner)
    tensors = []
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if kind not in READABLE_TYPES:
            kind = gguf.GGMLQuantizationType.Q8_0
            if int(tensor.shape[0]) % _Q8_BLOCK:
                kind = gguf.GGMLQuantizationType.F16
        tensors.append((tensor, kind))
        if kind == tensor.tensor_type:
            writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, raw_dtype=kind)
            continue
        rows = tuple(int(n) for n in reversed(tensor.shape))
        quantised = gguf.quant_shape_to_byte_shape(rows, kind)
        size = int(np.prod(quantised)) * (2 if kind == gguf.GGMLQuantizationType.F16 else 1)
        dtype = np.dtype(np.float16 if kind == gguf.GGMLQuantizationType.F16 else np.uint8)
        shape = rows if kind == gguf.GGMLQuantizationType.F16 else quantised
        writer.add_tensor_info(tensor.name, shape, dtype, size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, kind in tensors:  # one at a time: the whole model is never in memory twice
        data = tensor.data
        if kind != tensor.tensor_type:
            data = gguf.quants.quantize(gguf.quants.dequantize(tensor.data, tensor.tensor_type), kind)
        writer.write_tensor_data(data)
    writer.close()


def _size(shape: tuple[int, ...], kind: int) -> int:
    """Bytes of a tensor."""
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
    return math.prod(shape) // int(block) * int(size)


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<Q")
    return file.read(length).decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    """A metadata value; None for an array, which is skipped."""
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _unpack(file, _SCALARS[kind])[0]
    inner, count = _unpack(file, "<IQ")
    if inner == _STRING:
        for _ in range(count):
            file.seek(_unpack(file, "<Q")[0], 1)
    elif inner == _ARRAY:
        for _ in range(count):
            _value(file, _ARRAY)
    else:
        file.seek(count * struct.calcsize(_SCALARS[inner]), 1)
    return None
