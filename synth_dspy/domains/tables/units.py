"""What comments are written about: industries, for which tables are made first, and tables that are there."""

from __future__ import annotations

from dataclasses import dataclass

from synth_dspy.core.knowledge import Item
from synth_dspy.domains.tables.generate import Generated, Industry
from synth_dspy.domains.tables.schema import Table


@dataclass(frozen=True, slots=True)
class IndustryItem(Item):
    """An industry to make tables for."""

    industry: Industry


@dataclass(frozen=True, slots=True)
class TableItem(Item):
    """A table that exists; `write` says whether training data is written about it."""

    table: Table
    write: bool


@dataclass(frozen=True, slots=True)
class IndustryUnit:
    """A table that is still to be made for an industry; `turn` says which of several."""

    id: str
    group: str
    text: str
    industry: Industry
    turn: int


@dataclass(frozen=True, slots=True)
class TableUnit:
    """A table to comment on; `turn` says which of its industry's it is."""

    id: str
    group: str
    text: str
    made: Generated
    turn: int = 0
