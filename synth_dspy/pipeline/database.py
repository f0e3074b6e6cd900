"""A database documented with a saved program, start to end: read, document, write, and only if told so, apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.io.files import refuse_to_overwrite, write_whole
from synth_dspy.core.progress import Bars
from synth_dspy.domains.tables.catalogue import open_catalogue
from synth_dspy.domains.tables.documentation import TableDoc, coverage, document
from synth_dspy.domains.tables.output import FORMATS, has_comments, statements
from synth_dspy.domains.tables.schema import Table, comment_of, foci
from synth_dspy.pipeline.trust import Caller

CONCURRENT = 32
"""Calls under way; the program's model server batches them."""


@dataclass(frozen=True, slots=True)
class Documented:
    """What came of it; its text is what the verb prints."""

    docs: tuple[TableDoc, ...]
    out: Path
    applied: int
    note: str = ""

    def __str__(self) -> str:
        new = sum(len(doc.new) for doc in self.docs)
        kept = sum(len(doc.comments) for doc in self.docs) - new
        missing = sum(len(coverage(doc.table, [c.column for c in doc.comments]).missing) for doc in self.docs)
        parts = [f"{len(self.docs)} tables: {new} comments written, {kept} kept as they were"]
        if missing:
            parts.append(f"{missing} columns and tables without a comment: the program said nothing of them")
        parts.append(f"{self.applied} applied to the database" if self.applied else "nothing applied to the database")
        return "; ".join(parts) + f"\n{self.note}{self.out}"


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
    """Document what lacks comments in a database.

    Args:
        program: a saved program's folder, or any program `(table=..., column=...) -> answer`.
        database: as `open_catalogue` takes it.
        out: file to write; its ending says the format (.sql, .md, .yml).
        force: write over it where it is there already.
        apply: set the new comments in the database.
        only: names of tables; all unless given.
        again: write comments also where there are some.
        samples: values of each column that the program is shown.
        bars: shows progress.
        caller: what a program that somebody else made is allowed.

    Raises:
        SetupError: nothing can be read, written or applied; everything that can be known before is said before any
            model is loaded.
    """
    if out.suffix.lower() not in FORMATS:
        raise SetupError(f"{out} has no known ending: name a file ending in {', '.join(FORMATS)}.")
    if not out.parent.is_dir():
        raise SetupError(f"The documentation cannot be written to {out}: the folder {out.parent} does not exist.")
    refuse_to_overwrite([out], force=force)
    catalogue = open_catalogue(database)
    if apply:
        catalogue.apply([])  # what would prevent it is said now
    tables = _chosen(catalogue.tables(samples), only)
    write = _loaded(program, caller or Caller()) if isinstance(program, Path) else program
    bars = bars or Bars()
    missing = sum(again or not comment_of(table, focus) for table in tables for focus in foci(table))
    with bars.bar("comments", missing) as advance:
        docs = document(write, tables, Executor(CONCURRENT), again=again, progress=advance)
    try:
        write_whole(out, FORMATS[out.suffix.lower()].write(docs, catalogue.dialect))
    except OSError as error:
        raise SetupError(f"The documentation cannot be written to {out} ({error.strerror or error}).") from error
    made = [s for doc in docs for s in statements(doc, catalogue.dialect, doc.new)] if apply else []
    if made:
        catalogue.apply(made)
    note = ""
    if not has_comments(catalogue.dialect) and out.suffix.lower() == ".sql":
        note = "comments cannot be set on existing tables here, so this is the schema annotated, for reading: "
    return Documented(tuple(docs), out, len(made), note)


def _loaded(program: Path, caller: Caller) -> Any:
    """A saved program that comments on tables.

    Raises:
        SetupError: it cannot be loaded, or is another task's.
    """
    from synth_dspy.pipeline.saved import open_program

    loaded = open_program(program, caller)
    takes = signature(type(loaded).forward)  # DSPy warns of a look at the instance's own
    try:
        takes.bind(loaded, table="", column="")
    except TypeError:
        _, *names = takes.parameters
        raise SetupError(
            f"The program {program} takes {', '.join(names)}, not a table and a column: name one that comments on "
            "tables, such as runs/table_docs/<id>/programs/sft."
        ) from None
    return loaded


def _chosen(tables: Sequence[Table], only: Sequence[str]) -> list[Table]:
    names = {name for table in tables for name in (table.name, table.qualified)}
    if unknown := [name for name in only if name not in names]:
        raise SetupError(f"There is no table {unknown[0]!r} in the database; it has {', '.join(sorted(names)[:12])}.")
    chosen = [table for table in tables if not only or {table.name, table.qualified} & set(only)]
    if not chosen:
        raise SetupError("The database has no tables to document.")
    return chosen
