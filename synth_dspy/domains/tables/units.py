"""Units of the synthesis: industries, for which tables are generated first, and existing tables."""

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
    """An existing table; `write` says whether to write training data about it."""

    table: Table
    write: bool


@dataclass(frozen=True, slots=True)
class IndustryUnit:
    """A table to generate for an industry; `turn` is its number."""

    id: str
    group: str
    text: str
    industry: Industry
    turn: int


@dataclass(frozen=True, slots=True)
class TableUnit:
    """A table to comment on; `turn` is its number in its industry."""

    id: str
    group: str
    text: str
    made: Generated
    turn: int = 0
