"""The columns of a table that a program's inputs are read from, and their cells as the program takes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from synth_dspy.core.errors import SetupError
from synth_dspy.core.text import as_text, is_blank
from synth_dspy.core.validation import as_clause, suggest
from synth_dspy.pipeline.apply.tables import Table

if TYPE_CHECKING:
    import dspy

    from synth_dspy.pipeline.apply.settings import Job


def check_columns(required: Iterable[str], table: Table, job: Job) -> None:
    """Refuse a table that lacks a column which the program takes, or `--columns` names.

    Args:
        required: inputs that must have a value.
        table: the input.
        job: names columns that are called otherwise.

    Raises:
        SetupError: it does; names the column.
    """
    for column in job.columns.values():
        if column not in table.columns:
            raise SetupError(f"{job.input} has no column {column!r}: {suggest(column, list(table.columns))}")
    missing = sorted(name for name in required if job.columns.get(name, name) not in table.columns)
    if missing:
        raise SetupError(
            f"{job.input} has no column {missing[0]!r}, which the program takes: name the column with --columns "
            f"{missing[0]}=COLUMN; there are {list_names(table.columns)}."
        )


@dataclass(frozen=True)
class Inputs:
    """A program's inputs, and the columns that they are read from.

    Attributes:
        columns: by the inputs' names.
        required: inputs that must have a value.
        types: of the inputs that are not texts.
    """

    columns: Mapping[str, str]
    required: frozenset[str]
    types: Mapping[str, TypeAdapter[Any]]

    @classmethod
    def of(cls, program: dspy.Module, table: Table, job: Job) -> Inputs:
        """Map the columns of a table to the inputs of a program.

        Raises:
            SetupError: an input has no column, or `--columns` names one that does not exist.
        """
        from synth_dspy.pipeline.program_inputs import declared_inputs

        types, required = declared_inputs(program)
        for name, column in job.columns.items():
            if name not in types:
                raise SetupError(
                    f"The program has no input {name!r} (--columns {name}={column}): it takes {list_names(types)}."
                )
        check_columns(required, table, job)
        columns = {name: job.columns.get(name, name) for name in types if job.columns.get(name, name) in table.columns}
        adapters = {name: TypeAdapter(types[name]) for name in columns if types[name] not in (str, Any)}
        return cls(columns, required, adapters)

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The cells of a row, as they are."""
        return {name: row.get(column) for name, column in self.columns.items()}

    def convert(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Cells as the program takes them; empty cells of inputs that have a default are left out.

        Raises:
            ValueError: one is empty or has a wrong type; names its column.
        """
        values = {}
        for name, cell in cells.items():
            if is_blank(cell):
                if name in self.required:
                    raise ValueError(f"the column {self.columns[name]} is empty")
                continue
            values[name] = self._convert(name, cell)
        return values

    def _convert(self, name: str, cell: Any) -> Any:
        adapter = self.types.get(name)
        if adapter is None:
            return as_text(cell)
        try:
            return adapter.validate_python(cell)
        except ValidationError as error:
            try:
                return adapter.validate_json(cell) if isinstance(cell, str) else adapter.validate_python(as_text(cell))
            except ValidationError:
                why = as_clause(error.errors()[0]["msg"])
                raise ValueError(f"the column {self.columns[name]} is {str(cell)[:100]!r}: {why}") from None


def list_names(names: Iterable[str]) -> str:
    """Names, as part of a sentence."""
    return ", ".join(list(names)[:20])
