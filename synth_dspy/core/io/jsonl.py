"""Reading and checking JSON lines and tables from users and other programs, with uniform error messages.

    rows = read_rows(path, {"id": ID, "question": FILLED, "references": TEXTS})

A check takes a field's value and returns None, or what is expected instead: the end of the sentence that the user sees.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import parse_json, read_text

Check = Callable[[Any], str | None]
LINES = (".jsonl", ".ndjson", ".json")
TABLES = (".csv", ".tsv")
_SHOWN = 3


def _require(expectation: str, holds: Callable[[Any], bool]) -> Check:
    return lambda value: None if holds(value) else expectation


def _texts(filled: bool) -> Check:
    kind = "strings that are not empty" if filled else "strings"

    def check(value: Any) -> str | None:
        if not isinstance(value, list):
            return "make it a list of strings"
        valid = all(isinstance(each, str) and (each.strip() or not filled) for each in value)
        return None if valid else f"it must hold only {kind}"

    return check


TEXT = _require("make it a string", lambda value: isinstance(value, str))
FILLED = _require("make it a string that is not empty", lambda value: isinstance(value, str) and bool(value.strip()))
GIVEN = _require("give a value", lambda value: value is not None)
TEXTS = _texts(filled=False)
FILLED_TEXTS = _texts(filled=True)
ID = _require(
    "make it a string or a number", lambda value: isinstance(value, str | int) and not isinstance(value, bool)
)
BOOL = _require("make it true or false", lambda value: isinstance(value, bool))
LABEL = _require("make it 0 or 1", lambda value: value in (0, 1))
COUNT = _require(
    "make it a positive whole number",
    lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
)
OBJECTS = _require(
    "make it a list of objects", lambda value: isinstance(value, list) and all(isinstance(row, dict) for row in value)
)


def one_of(names: Collection[str], noun: str) -> Check:
    """A check that a value is one of the ids of the `noun`s (such as documents) that were read."""
    examples = ", ".join(sorted(names)[:5])

    def check(value: Any) -> str | None:
        valid = isinstance(value, str) and value in names
        return None if valid else f"but no such {noun} was read; use one of {len(names)} ids such as {examples}"

    return check


def read_rows(
    path: Path, fields: Mapping[str, Check], *, optional: Mapping[str, Check] | None = None, unique: str | None = None
) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one per line; blank lines are skipped, unknown fields are kept.

    Args:
        path: the file, UTF-8.
        fields: checks of the required fields.
        optional: checks of fields that a line may omit or set to null.
        unique: a field whose values must be unique.

    Raises:
        SetupError: the file cannot be read or is empty, or a line fails a check; names the file, the line and the
            field.
    """
    return [row for _, row in _json_rows(path, fields, optional or {}, unique)]


def read_table(
    path: Path, fields: Mapping[str, Check], *, optional: Mapping[str, Check] | None = None
) -> list[dict[str, Any]]:
    """The rows of `placed_rows`, without their places."""
    return [row for _, row in placed_rows(path, fields, optional=optional)]


def placed_rows(
    path: Path, fields: Mapping[str, Check], *, optional: Mapping[str, Check] | None = None, unique: str | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Read a file of JSON lines, or a table with a header if its name ends with `.csv` or `.tsv`.

    Args:
        path: the file, UTF-8.
        fields: checks of the required fields; further fields are kept.
        optional: checks of fields that a row may omit.
        unique: a field whose values must be unique among the rows that have it.

    Returns:
        Each row with its place, "<path>, line <number>", for messages about it.

    Raises:
        SetupError: as `read_rows`.
    """
    table = path.suffix.lower() in TABLES
    return (_csv_rows if table else _json_rows)(path, fields, optional or {}, unique)


def table_reader(
    text: str, fields: Collection[str], optional: Collection[str] = (), *, strict: bool = False
) -> csv.DictReader[str]:
    """A reader of a table's text, whose cells are separated by whichever of `,`, `;` and tab gives the header `fields`.

    Some spreadsheets save `.csv` with semicolons, as the decimal comma of their language needs. A column may be called
    as a field in other letter case; then it has the field's name.
    """
    for separator in ",;\t":
        with suppress(csv.Error):  # with another separator it may be valid
            reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
            reader.fieldnames = _as_fields(reader.fieldnames or [], [*fields, *optional])
            if {*fields} <= {*reader.fieldnames}:
                return reader
    return csv.DictReader(io.StringIO(text, newline=""), strict=strict)


def _as_fields(columns: Sequence[str], fields: Collection[str]) -> list[str]:
    """The columns' names, those that differ from a field's only in case and outer blanks by its name."""
    alike = Counter(column.strip().casefold() for column in columns)
    names = {field.casefold(): field for field in fields if field not in columns and alike[field.casefold()] == 1}
    return [names.get(column.strip().casefold(), column) for column in columns]


def _json_rows(
    path: Path, fields: Mapping[str, Check], optional: Mapping[str, Check], unique: str | None
) -> list[tuple[str, dict[str, Any]]]:
    lines = read_text(path).split("\n")  # splitlines() would also cut at U+2028 inside a string
    remedy = "fix the line" if path.suffix.lower() in LINES else f"the name of a table ends with {' or '.join(TABLES)}"
    rows: list[tuple[str, dict[str, Any]]] = []
    wrong: list[str] = []
    seen: dict[Any, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            row = _row(line, place, fields, optional, remedy)
            _check_unique(row, unique, number, seen, place)
        except SetupError as error:
            wrong.append(str(error))
            continue
        rows.append((place, row))
    _refuse(wrong, path)
    if not rows:
        raise SetupError(f"{path} should hold JSON objects, one per line, but is empty.")
    return rows


def _csv_rows(
    path: Path, fields: Mapping[str, Check], optional: Mapping[str, Check], unique: str | None
) -> list[tuple[str, dict[str, Any]]]:
    reader = table_reader(read_text(path), fields, optional, strict=True)
    rows: list[tuple[str, dict[str, Any]]] = []
    wrong: list[str] = []
    seen: dict[Any, int] = {}
    try:
        columns = [name for name in reader.fieldnames or [] if name]
        if missing := [name for name in fields if name not in columns]:
            hint = f"; the columns are {', '.join(columns)}" if columns else ""
            raise SetupError(f"{path}, line 1: the column {missing[0]!r} is missing{hint}.")
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if None in cells or None in cells.values():
                difference = "more" if None in cells else "fewer"
                raise SetupError(
                    f"{place}: has {difference} cells than the header; put texts that hold a separator in quotes."
                )
            row = {name: cells[name] for name in columns if name in fields or cells[name]}
            try:
                for name, check in {**optional, **fields}.items():
                    if name in fields or name in row:
                        _check({name: None} | row, name, check, place)
                _check_unique(row, unique, reader.line_num, seen, place)
            except SetupError as error:
                wrong.append(str(error))
                continue
            rows.append((place, row))
    except csv.Error as error:
        raise SetupError(f"{path}, line {reader.line_num}: is not valid CSV ({error}); fix the line.") from error
    _refuse(wrong, path)
    if not rows:
        raise SetupError(f"{path} should hold rows below its header, but has none.")
    return rows


def _refuse(wrong: Sequence[str], path: Path) -> None:
    """Refuse a file for its wrong rows, the first few of which are shown."""
    if not wrong:
        return
    shown = " ".join(wrong[:_SHOWN])
    raise SetupError(shown if len(wrong) == 1 else f"{shown} In all, {len(wrong)} rows of {path} are wrong.")


def _check_unique(row: Mapping[str, Any], unique: str | None, number: int, seen: dict[Any, int], place: str) -> None:
    if unique is None or row.get(unique) is None:
        return
    if (first := seen.setdefault(row[unique], number)) != number:
        raise SetupError(f"{place}: {unique} {row[unique]!r} is also used in line {first}; make it unique.")


def _row(
    line: str, place: str, fields: Mapping[str, Check], optional: Mapping[str, Check], remedy: str
) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        reason = str(error).replace("at line 1 column", "at column")
        raise SetupError(f"{place}: is not valid JSON ({reason}); {remedy}.") from error
    if not isinstance(row, dict):
        raise SetupError(f"{place}: is not a JSON object; write {{...}} with the fields {', '.join(fields)}.")
    for name, check in fields.items():
        if name not in row:
            raise SetupError(f"{place}: field {name!r} is missing; add it (fields: {', '.join(fields)}).")
        _check(row, name, check, place)
    for name, check in optional.items():
        if row.get(name) is not None:
            _check(row, name, check, place)
    return row


def _check(row: Mapping[str, Any], name: str, check: Check, place: str) -> None:
    expectation = check(row[name])
    if expectation is not None:
        raise SetupError(f"{place}: field {name!r} is {json.dumps(row[name], ensure_ascii=False)[:60]}; {expectation}.")
