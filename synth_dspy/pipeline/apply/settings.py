"""What a job applies to what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """What is applied to what.

    Attributes:
        input: a path, or the URL of a database.
        output: file or Delta table to write; its extension decides the format.
        query: for a database.
        columns: the program's inputs and the columns that they are read from, where the names differ.
        outputs: fields of the program's predictions, and the columns that they are written to.
        error_column: the column for the error of a row that failed.
        concurrency: rows under way at once.
        stop_after: failures in a row after which the job stops.
        force: replace an existing output.
    """

    input: str
    output: Path
    query: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=lambda: {"answer": "answer"})
    error_column: str = "error"
    concurrency: int = 64
    stop_after: int = 100
    force: bool = False
