"""Documents a database with a saved program: read, document, write and, on request, apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.io.files import refuse_to_overwrite, write_whole
from synth_dspy.core.knowledge import Skipped, skipped_sentences
from synth_dspy.core.progress import Bars
from synth_dspy.core.text import counted
from synth_dspy.domains.tables.catalogue import open_catalogue
from synth_dspy.domains.tables.documentation import TableDoc, coverage, document
from synth_dspy.domains.tables.output import FORMATS, has_comments, statements
from synth_dspy.domains.tables.schema import Table, comment_of, foci
from synth_dspy.pipeline.trust import Caller

CONCURRENT = 32
"""Concurrent calls, which the program's model server batches."""


@dataclass(frozen=True, slots=True)
class Documented:
    """The result; `str` gives the summary that the command prints."""

    docs: tuple[TableDoc, ...]
    out: Path
    applied: int
    note: str = ""
    skipped: tuple[Skipped, ...] = ()

    def __str__(self) -> str:
        new = sum(len(doc.new) for doc in self.docs)
        kept = sum(len(doc.comments) for doc in self.docs) - new
        missing = sum(len(coverage(doc.table, [c.column for c in doc.comments]).missing) for doc in self.docs)
        parts = [f"{counted(len(self.docs), 'table')}: {counted(new, 'comment')} written, {kept} kept"]
        if missing:
            parts.append(f"{missing} columns and tables without a comment, because the program wrote none")
        parts.append(f"{self.applied} applied to the database" if self.applied else "nothing applied to the database")
        return "\n".join(["; ".join(parts), *skipped_sentences(self.skipped), f"{self.note}{self.out}"])


def document_database(
    program: Path | Callable[..., Any],
    database: str,
    out: Path,
    *,
    force: bool = False,
    apply: bool = False,
    only: Sequence[str] = (),
    again: bool = False,
    samples: int = 0,
    bars: Bars | None = None,
    caller: Caller | None = None,
) -> Documented:
    """Write the missing comments of a database.

    Args:
        program: a saved program's folder, or any program `(table=..., column=...) -> answer`.
        database: as `open_catalogue` takes it.
        out: file to write; its extension decides the format (.sql, .md, .yml).
        force: overwrite an existing file.
        apply: set the new comments in the database.
        only: names of tables; by default all.
        again: also replace existing comments.
        samples: values of each column that the program is shown.
        bars: shows progress.
        caller: what a program that somebody else made is allowed.

    Raises:
        SetupError: the database cannot be read, or comments cannot be written or applied. What can be checked in
            advance is checked before any model is loaded.
    """
    if out.suffix.lower() not in FORMATS:
        raise SetupError(f"{out} has an unknown extension: name a file that ends in {', '.join(FORMATS)}.")
    if not out.parent.is_dir():
        raise SetupError(f"The documentation cannot be written to {out}: the folder {out.parent} does not exist.")
    refuse_to_overwrite([out], force=force)
    catalogue = open_catalogue(database)
    if apply:
        catalogue.apply([])  # fails now if it would fail later
    tables = _chosen_tables(catalogue.tables(samples), only)
    write = _load_program(program, caller or Caller()) if isinstance(program, Path) else program
    bars = bars or Bars()
    missing = sum(again or not comment_of(table, focus) for table in tables for focus in foci(table))
    with bars.bar("comments", missing) as advance:
        docs = document(write, tables, Executor(CONCURRENT), again=again, progress=advance)
    try:
        write_whole(out, FORMATS[out.suffix.lower()].write(docs, catalogue.dialect))
    except OSError as error:
        raise SetupError(f"The documentation cannot be written to {out} ({error.strerror or error}).") from error
    applied = [s for doc in docs for s in statements(doc, catalogue.dialect, doc.new)] if apply else []
    if applied:
        catalogue.apply(applied)
    note = ""
    if not has_comments(catalogue.dialect) and out.suffix.lower() == ".sql":
        note = "this database has no comments on existing tables, so this is the annotated schema, for reading only: "
    return Documented(tuple(docs), out, len(applied), note, tuple(catalogue.skipped()))


def _load_program(program: Path, caller: Caller) -> Any:
    """A saved program that comments on tables.

    Raises:
        SetupError: it cannot be loaded, or is of another task.
    """
    from synth_dspy.pipeline.saved import open_program

    loaded = open_program(program, caller)
    takes = signature(type(loaded).forward)  # reading the instance's own makes DSPy warn
    try:
        takes.bind(loaded, table="", column="")
    except TypeError:
        _, *names = takes.parameters
        raise SetupError(
            f"The program {program} takes {', '.join(names)}, not a table and a column: name one that comments on "
            "tables, such as runs/table_docs/<id>/programs/sft."
        ) from None
    return loaded


def _chosen_tables(tables: Sequence[Table], only: Sequence[str]) -> list[Table]:
    names = {name for table in tables for name in (table.name, table.qualified)}
    if unknown := [name for name in only if name not in names]:
        raise SetupError(f"There is no table {unknown[0]!r} in the database; it has {', '.join(sorted(names)[:12])}.")
    chosen = [table for table in tables if not only or {table.name, table.qualified} & set(only)]
    if not chosen:
        raise SetupError("The database has no tables to document.")
    return chosen
