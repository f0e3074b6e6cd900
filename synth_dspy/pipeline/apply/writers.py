"""Writes a table with a program's answers beside its columns, whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import replacing
from synth_dspy.core.text import as_text
from synth_dspy.pipeline.apply.tables import Batch

if TYPE_CHECKING:
    import pyarrow as pa

Columns = Mapping[str, "pa.DataType"]
Joined = Iterator[tuple[Batch, Mapping[str, Sequence[Any]]]]
"""Batches of the input, each with the values of the new columns."""


def write_csv(target: Path, old: Columns, new: Columns, joined: Joined, delimiter: str = ",") -> None:
    """CSV with a header; lists and objects are JSON, missing values empty."""
    with target.open("w", encoding="utf-8", newline="") as file:
        # Python 3.11 quotes a cell only for those line breaks that end the rows: for csv, both of them do.
        writer = csv.writer(_EndingRows(file), delimiter=delimiter, lineterminator="\r\n")
        writer.writerow([*old, *new])
        for batch, added in joined:
            for row, *values in zip(batch.rows, *added.values(), strict=True):
                writer.writerow([_cell(value) for value in (*(row.get(name) for name in old), *values)])


class _EndingRows:
    """Ends the rows of a `csv.writer`, which it writes one by one, with a line feed alone."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> None:
        self._file.write(row.removesuffix("\r\n") + "\n")


def write_json_lines(target: Path, old: Columns, new: Columns, joined: Joined) -> None:
    """One object per row, with the row's own keys first."""
    with target.open("w", encoding="utf-8") as file:
        for batch, added in joined:
            for row, *values in zip(batch.rows, *added.values(), strict=True):
                whole = {**row, **dict(zip(added, values, strict=True))}
                file.write(json.dumps(whole, ensure_ascii=False, default=str) + "\n")


def write_parquet(target: Path, old: Columns, new: Columns, joined: Joined) -> None:
    """Parquet, with the input's types."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([*old.items(), *new.items()])
    with pq.ParquetWriter(target, schema) as writer:
        for batch in _arrow_batches(schema, old, joined):
            writer.write_batch(batch)


def write_delta(target: Path, old: Columns, new: Columns, joined: Joined) -> None:
    """A Delta table, in one transaction."""
    try:
        import deltalake
    except ImportError as error:
        raise SetupError("Writing a Delta table needs deltalake: pip install 'synth_dspy[delta]'.") from error
    import pyarrow as pa

    schema = pa.schema([*old.items(), *new.items()])
    failures: list[Exception] = []  # deltalake raises errors of its own in place of those of the batches

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from _arrow_batches(schema, old, joined)
        except Exception as error:
            failures.append(error)
            raise

    try:
        deltalake.write_deltalake(str(target), pa.RecordBatchReader.from_batches(schema, batches()))
    except Exception as error:  # its own, or a plain one where a batch failed while others were being written
        if failures:
            raise failures[0] from error
        if isinstance(error, deltalake.exceptions.DeltaError):
            raise pa.ArrowInvalid(str(error)) from error
        raise


Writer = Callable[[Path, Columns, Columns, Joined], None]


def _write_tsv(target: Path, old: Columns, new: Columns, joined: Joined) -> None:
    write_csv(target, old, new, joined, delimiter="\t")


WRITERS: Mapping[str, Writer] = {
    ".csv": write_csv,
    ".tsv": _write_tsv,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".parquet": write_parquet,
    ".pq": write_parquet,
    ".delta": write_delta,
}
"""By the extension of `--output`."""


def check_output(output: Path, *, force: bool) -> Writer:
    """The writer for `--output`.

    Raises:
        SetupError: its extension is unknown, it exists and `force` is false, or its folder does not exist.
    """
    writer = WRITERS.get(output.suffix.lower())
    if writer is None:
        raise SetupError(f"{output} has an unknown extension: name an output that ends in {', '.join(WRITERS)}.")
    if output.is_dir() and not (output / "_delta_log").is_dir():
        raise SetupError(f"{output} is a folder, not a table: name another path with --output.")
    if output.exists() and not force:
        raise SetupError(f"{output} exists already: name another path with --output, or replace it with --force.")
    if not output.parent.is_dir():
        raise SetupError(f"The answers cannot be written to {output}: the folder {output.parent} does not exist.")
    return writer


def write(writer: Writer, output: Path, old: Columns, new: Columns, joined: Joined) -> None:
    """Write the output; until it is whole, what was there before stays.

    Raises:
        SetupError: it cannot be written.
    """
    from pyarrow import ArrowException

    try:
        with replacing(output) as partial:
            writer(partial, old, new, joined)
    except (OSError, ArrowException) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:200].rstrip(".")
        remedy = "" if isinstance(error, OSError) else "name an --output that ends in .jsonl or .csv; "
        raise SetupError(f"The answers cannot be written to {output} ({why}): {remedy}none of them is lost.") from error


def _arrow_batches(schema: pa.Schema, old: Columns, joined: Joined) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    for batch, added in joined:
        if batch.arrow is not None:
            arrays = list(batch.arrow.columns)
        else:
            arrays = [_array(name, [row.get(name) for row in batch.rows], kind) for name, kind in old.items()]
        arrays += [_array(name, values, schema.field(name).type) for name, values in added.items()]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(name: str, values: Sequence[Any], kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_string(kind):
        values = [None if value is None else as_text(value) for value in values]
    try:
        return pa.array(values, type=kind)
    except (pa.ArrowException, OverflowError) as error:
        raise pa.ArrowInvalid(f"the column {name!r} cannot hold all its values as {kind}: {error}") from error


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict):
        return as_text(value)
    return "" if value is None else str(value)
