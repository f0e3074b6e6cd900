"""The source of the task's knowledge: industries to generate tables for, and tables with people's comments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dspy

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Knowledge
from synth_dspy.core.masking import mask_message
from synth_dspy.core.splits import hash_order
from synth_dspy.core.text import counted
from synth_dspy.domains.tables.catalogue import open_catalogue
from synth_dspy.domains.tables.generate import Industry, read_industries
from synth_dspy.domains.tables.labelled import read_tables, rows_of
from synth_dspy.domains.tables.schema import WHOLE, Table, view
from synth_dspy.domains.tables.units import IndustryItem, TableItem

INDUSTRIES = "naics.csv"
TABLES = "tables"
VOCABULARY = "vocabulary.toml"

ENOUGH_TABLES, ENOUGH_COMMENTS = 3, 30
"""Tables of a database with comments, and comments, from which on they are scored in place of the sample's."""

T = TypeVar("T")


@dataclass(frozen=True)
class Industries:
    """Industries, tables with comments, and perhaps the user's database.

    Attributes:
        sample: a folder with `naics.csv`, `vocabulary.toml` and the labelled `tables/`.
        naics: another list of industries (CSV with the columns code and title).
        tables: other labelled tables, a .sql or .jsonl file or a folder of such files, instead of the sample's.
        database: a database whose tables come first when training data is written; its existing comments are labelled
            data too, in place of the sample's if there are enough.
    """

    sample: Path
    naics: Path | None = None
    tables: Path | None = None
    database: str | None = None

    def read(self, limit: int | None = None) -> Knowledge:
        """Read everything; `limit` takes that many labelled tables and industries, in the order of their hashes.

        Raises:
            SetupError: something cannot be read; the database has no tables, or the labelled ones no comments.
        """
        industries = read_industries(self.naics or self.sample / INDUSTRIES)
        catalogue = open_catalogue(self.database) if self.database else None
        own = catalogue.tables() if catalogue else []
        if self.database and not own:
            raise SetupError(
                f"The database {mask_message(self.database)} has no tables, so there is nothing to learn to document: "
                "name one that has some, or leave out --task.database."
            )
        own = own if limit is None else _some(own, [table.qualified for table in own], limit)
        comments = _comments(own)
        enough = len(comments) >= ENOUGH_TABLES and sum(comments) >= ENOUGH_COMMENTS
        others = [] if enough and self.tables is None else read_tables(self.tables or self.sample / TABLES)
        names = {table.qualified for table in own}
        tables = own + [table for table in others if table.qualified not in names]
        if limit is not None:
            tables = _some(tables, [table.qualified for table in tables], limit)
            industries = _some(industries, [industry.code for industry in industries], limit)
        labelled = [row for table in tables for row in rows_of(table)]
        if not labelled:
            raise SetupError(
                f"The tables of {self.tables or self.sample} have no comments: labelled tables need COMMENT clauses, "
                "COMMENT ON statements, or column_comments in JSON lines."
            )
        undocumented = [table for table in tables if table.qualified in names]
        return Knowledge(
            items=[
                *(_table_item(table, table in undocumented) for table in tables),
                *map(_industry_item, industries),
            ],
            labelled=labelled,
            skipped=catalogue.skipped() if catalogue else (),
            notes=[self._scored(_comments(undocumented), enough)] if self.database else (),
        )

    def _scored(self, comments: Sequence[int], enough: bool) -> str:
        """Whose comments the scores of a run with a database are about, by those on its tables."""
        others = f"the tables of {self.tables}" if self.tables else "the sample's tables"
        if not comments:
            return (
                f"The scores are about {others}, not about the database's, which have no comments by people to compare "
                "with."
            )
        own = f"{counted(sum(comments), 'comment')} by people on {counted(len(comments), 'table')} of the database"
        if self.tables is not None:
            return f"The scores are about {others} and about {own}."
        if enough:
            return f"The scores are about the {own}."
        return (
            f"The scores are mostly about {others}: there are only {own}, and at least {ENOUGH_COMMENTS} on "
            f"{ENOUGH_TABLES} would be scored in their place."
        )

    def read_labelled(self, path: Path, limit: int | None = None) -> list[dspy.Example]:
        """Labelled rows of another file of tables.

        Raises:
            SetupError: it cannot be read.
        """
        tables = read_tables(path)
        chosen = tables if limit is None else _some(tables, [table.qualified for table in tables], limit)
        return [row for table in chosen for row in rows_of(table)]


def _comments(tables: Sequence[Table]) -> list[int]:
    """How many comments people wrote on each table that has some."""
    counts = [len(list(rows_of(table))) for table in tables]
    return [count for count in counts if count]


def _table_item(table: Table, write: bool) -> TableItem:
    return TableItem(f"table/{table.qualified}", table.qualified, view(table, WHOLE), table, write)


def _industry_item(industry: Industry) -> IndustryItem:
    return IndustryItem(f"naics/{industry.code}", industry.code, industry.title, industry)


def _some(things: Sequence[T], keys: Sequence[str], limit: int) -> list[T]:
    kept = set(sorted(keys, key=hash_order)[:limit])
    return [thing for thing, key in zip(things, keys, strict=True) if key in kept]
