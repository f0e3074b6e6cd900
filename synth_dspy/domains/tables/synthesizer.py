"""Writes training rows about tables: a table of an industry, then a comment on some of its columns, one call each.

There are two ways, depending on the teacher:

* *worded* (small teachers): structure and meaning are sampled from the vocabulary, and the teacher words the meaning as
  a comment. A model of 135M parameters cannot write DDL that parses.
* *free* (capable teachers): the teacher lists use cases of the industry, writes a `CREATE TABLE` for each in a random
  dialect and style, and comments on the columns like the labelled examples.

The columns of the user's own database have no known meaning: comments on them are always free.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import dspy

from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.core.protocols import Filter
from synth_dspy.core.splits import hash_order
from synth_dspy.domains.tables.ddl import DdlError, parse_table
from synth_dspy.domains.tables.documentation import clean
from synth_dspy.domains.tables.generate import DIALECTS, Generated, Industry, Sampler
from synth_dspy.domains.tables.labelled import INPUTS, row_fields
from synth_dspy.domains.tables.schema import WHOLE, Table, comment_of, foci, line, view
from synth_dspy.domains.tables.units import IndustryItem, IndustryUnit, TableItem, TableUnit
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.synthesis.pipeline import candidate_id, evenly
from synth_dspy.synthesis.samples import draw, first_passing, kept_by

DECODING = {"max_tokens": 40, "temperature": 0.0, "stop": ["\n"]}
SAMPLING = {"temperature": 0.5, "top_p": 0.9}
STYLES = ("long speaking names", "terse abbreviated names", "CamelCase names", "names in capitals with prefixes")
USE_CASES = 5


class WordComment(dspy.Signature):
    """Write the meaning of a database column as a short comment."""

    column: str = dspy.InputField()
    meaning: str = dspy.InputField()
    comment: str = dspy.OutputField()


class WriteComment(dspy.Signature):
    """Write a short comment that says what the column of the table holds, for somebody who does not know the database.
    Do not merely repeat its name."""

    table: str = dspy.InputField()
    column: str = dspy.InputField()
    comment: str = dspy.OutputField()


class ListUseCases(dspy.Signature):
    """Name five things for which companies of the industry keep tables in a database, one a line, a few words each."""

    industry: str = dspy.InputField()
    use_cases: str = dspy.OutputField()


class WriteTable(dspy.Signature):
    """Write one CREATE TABLE statement in the SQL dialect that is named, without comments and without explanation."""

    industry: str = dspy.InputField()
    use_case: str = dspy.InputField()
    dialect: str = dspy.InputField()
    style: str = dspy.InputField()
    columns: int = dspy.InputField()
    statement: str = dspy.OutputField()


WORDED = (
    ("cust_nm varchar(60)", "name of the person who buys", "Name of the customer"),
    ("dlv_dt date", "day on which the goods were handed over", "Day of delivery to the customer"),
    ("fleet (the whole table)", "vans and trucks that belong to us", "Vans and trucks of the company"),
    ("is_active boolean", "true while the account can be used", "Whether the account can be used"),
)
"""Demonstrations for small teachers: column, meaning, and the comment that words it."""


class TableSynthesizer(dspy.Module):
    """Writes candidates: `plan` chooses industries and tables, `forward` writes about one.

    Args:
        sampler: draws tables for small teachers.
        seeds: labelled rows of the training tables, shown to capable teachers.
        free: whether the teacher writes whole statements.
        per_table: comments for each table, its own among them.
        samples: most wordings tried, until one passes the checks.
        checks: filters without model calls.
        seed: for random choices.
    """

    def __init__(
        self,
        sampler: Sampler,
        seeds: Sequence[dspy.Example] = (),
        *,
        free: bool = False,
        per_table: int = 4,
        samples: int = 3,
        checks: Sequence[Filter] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sampler = sampler
        self.seeds = list(seeds)
        self.free = free
        self.per_table = per_table
        self.samples = samples
        self.checks = list(checks)
        self.seed = seed
        self.word = dspy.Predict(WordComment)
        self.write = dspy.Predict(WriteComment)
        self.list_use_cases = dspy.Predict(ListUseCases)
        self.write_table = dspy.Predict(WriteTable)
        self.adapter = PlainAdapter()

    def plan(self, items: Sequence[Item], limit: int | None) -> list[IndustryUnit | TableUnit]:
        """Units to write about: the user's own tables first, then industries, as often as `limit` requires."""
        own = [_unit_of(item) for item in items if isinstance(item, TableItem) and item.write]
        industries = over_sectors([item for item in items if isinstance(item, IndustryItem)])
        if limit is None:
            return [*own, *(_turn_of(item, 0) for item in industries)]
        wanted = math.ceil(limit / self.per_table)
        own = evenly(own, wanted)
        left = wanted - len(own) if industries else 0
        rounds = math.ceil(left / len(industries)) if left else 0
        turns = [industries[: left - n * len(industries)] for n in range(rounds)]
        return own + [_turn_of(item, n) for n, turn in enumerate(turns) for item in turn]

    def forward(self, unit: IndustryUnit | TableUnit | Item) -> list[Candidate[TableUnit]]:
        """The candidates of one unit from `plan`, or of all units of an item."""
        if isinstance(unit, Item):
            return [candidate for own in self.plan([unit], None) for candidate in self.forward(own)]
        with dspy.context(adapter=self.adapter):
            if isinstance(unit, IndustryUnit):
                make = self._write_statement if self.free else self.sampler.sample
                unit = TableUnit(unit.id, unit.group, unit.text, make(unit.industry, unit.turn), unit.turn)
            if not unit.made.table.columns:  # an invalid statement: the filters count it
                return [_candidate(unit, WHOLE, "")]
            return [self._commented(unit, focus) for focus in self._foci(unit.made.table, unit.id, unit.turn)]

    def _foci(self, table: Table, key: str, turn: int) -> list[str]:
        """The table itself and some columns; in the user's own tables only those without a comment."""
        whole, *columns = [focus for focus in foci(table) if not comment_of(table, focus)] or [WHOLE]
        chosen = random.Random(f"{self.seed}/{key}/{turn}").sample(columns, min(self.per_table - 1, len(columns)))
        return [whole, *chosen]

    def _commented(self, unit: TableUnit, focus: str) -> Candidate[TableUnit]:
        trials = (
            _candidate(unit, focus, self._comment(unit.made, focus, unit.group, {**DECODING, **draw(i, SAMPLING)}))
            for i in range(self.samples)
        )
        candidate = first_passing(trials, lambda trial: kept_by(self.checks, trial))
        assert candidate is not None
        return candidate

    def _comment(self, made: Generated, focus: str, group: str, decoding: dict[str, Any]) -> str:
        if meaning := made.meanings.get(focus):
            demos = [dspy.Example(column=c, meaning=m, comment=comment) for c, m, comment in WORDED]
            column = f"{made.table.name} {WHOLE}" if focus == WHOLE else line(made.table, focus)
            return clean(str(self.word(column=column, meaning=meaning, demos=demos, config=decoding).comment))
        others = [seed for seed in self.seeds if seed.group != group and (seed.category == "table") == (focus == WHOLE)]
        shown = random.Random(f"{self.seed}/{made.table.qualified}/{focus}").sample(others, min(3, len(others)))
        demos = [dspy.Example(table=seed.table, column=seed.column, comment=seed.comment) for seed in shown]
        table, column = view(made.table, focus), line(made.table, focus)
        return clean(str(self.write(table=table, column=column, demos=demos, config=decoding).comment))

    def _write_statement(self, industry: Industry, turn: int) -> Generated:
        """A table from the teacher's own statement; without columns if it does not parse."""
        listed = self.list_use_cases(industry=industry.title, config={"max_tokens": 80, "temperature": 0.0}).use_cases
        cases = use_cases(str(listed)) or ["operations"]
        rng = random.Random(f"{self.seed}/{industry.code}/{turn}")
        case, dialect = cases[turn % len(cases)], rng.choice(DIALECTS)
        statement = self.write_table(
            industry=industry.title,
            use_case=case,
            dialect=dialect,
            style=rng.choice(STYLES),
            columns=min(40, 4 + int(rng.expovariate(1 / 7))),
            config={"max_tokens": 700, "temperature": 0.0, **draw(turn, SAMPLING)},
        ).statement
        ddl = statement_in(str(statement))
        try:
            table = parse_table(ddl, dialect)
        except DdlError:
            table = Table("", (), dialect=dialect)
        return Generated(table, ddl, case, {})


def over_sectors(industries: Sequence[IndustryItem]) -> list[IndustryItem]:
    """Industries in an order in which every prefix is spread over the sectors."""
    by_sector: defaultdict[str, list[IndustryItem]] = defaultdict(list)
    for item in sorted(industries, key=lambda item: hash_order(item.group)):
        by_sector[item.group[:2]].append(item)
    ranked = [(rank, hash_order(sector), item) for sector, own in by_sector.items() for rank, item in enumerate(own)]
    return [item for *_, item in sorted(ranked, key=lambda entry: entry[:2])]


def use_cases(text: str) -> list[str]:
    """The lines of a list, without bullets and numbers; at most `USE_CASES`."""
    lines = (re.sub(r"^[\s\-*•\d.)]+", "", entry).strip(" .*") for entry in text.splitlines())
    return [entry for entry in lines if entry and len(entry.split()) <= 12][:USE_CASES]


def statement_in(text: str) -> str:
    """The statement in a reply: the code fence's content, or the text from CREATE to its semicolon."""
    fenced = re.search(r"```\w*\s*(.*?)(?:```|\Z)", text, re.S)
    body = fenced[1] if fenced else text
    begin = re.search(r"\bCREATE\b", body, re.I)
    statement = body[begin.start() :] if begin else body
    return statement.partition(";")[0].strip()


def _unit_of(item: TableItem) -> TableUnit:
    return TableUnit(item.id, item.group, item.text, Generated(item.table, "", "", {}))


def _turn_of(item: IndustryItem, turn: int) -> IndustryUnit:
    return IndustryUnit(f"{item.id}/{turn}", item.group, item.text, item.industry, turn)


def _candidate(unit: TableUnit, focus: str, comment: str) -> Candidate[TableUnit]:
    fields = row_fields(unit.made.table, focus)
    category = fields.pop("category")
    fields |= {"comment": comment, "answer": comment, "references": [comment], "ddl": unit.made.ddl}
    return Candidate(candidate_id(unit, focus), unit, fields, category, INPUTS)
