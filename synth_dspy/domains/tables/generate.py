"""Generates tables of an industry from a vocabulary: their structure is sampled with a seed, without a model call.

A vocabulary (`data/industries/vocabulary.toml`) lists the sectors of every entity, and the kind and meaning of its
attributes. A sample draws an entity, a naming style, a dialect, 4 to 40 attributes with types of their kind, and
foreign keys; sqlglot writes the statement. Because the meaning of every column is known, comments can be checked
against it, unlike with DDL from a model.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_toml
from synth_dspy.domains.tables.ddl import identifier, parse_table
from synth_dspy.domains.tables.naming import Style
from synth_dspy.domains.tables.schema import WHOLE, Table

DIALECTS = ("postgres", "mysql", "oracle", "snowflake", "tsql", "bigquery", "sqlite", "duckdb", "spark", "redshift")
FEWEST, MOST = 4, 40

TYPES: Mapping[str, Sequence[str]] = {
    "key": ("BIGINT", "INT", "VARCHAR(20)", "VARCHAR(12)"),
    "ref": ("BIGINT", "INT"),
    "code": ("VARCHAR(10)", "CHAR(4)", "VARCHAR(20)"),
    "name": ("VARCHAR(60)", "VARCHAR(100)", "VARCHAR(255)"),
    "text": ("TEXT", "VARCHAR(500)", "VARCHAR(2000)"),
    "date": ("DATE",),
    "time": ("TIMESTAMP",),
    "clock": ("TIME", "VARCHAR(5)"),
    "amount": ("DECIMAL(12, 2)", "DECIMAL(18, 2)", "DECIMAL(9, 2)"),
    "count": ("INT", "SMALLINT"),
    "measure": ("DECIMAL(10, 3)", "DOUBLE PRECISION", "DECIMAL(8, 2)"),
    "percent": ("DECIMAL(5, 2)", "DOUBLE PRECISION"),
    "flag": ("BOOLEAN", "CHAR(1)", "SMALLINT"),
    "place": ("DOUBLE PRECISION", "DECIMAL(9, 6)"),
}
"""PostgreSQL types by kind; the other dialects' types follow from these."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """The subject of a column: its words, its kind (a key of `TYPES`), its meaning."""

    words: tuple[str, ...]
    kind: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Entity:
    """The subject of a table; `sectors` are two-digit NAICS codes, empty for all."""

    words: tuple[str, ...]
    use: str
    description: str
    sectors: frozenset[str]
    attributes: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All entities, and the attributes that each of them may have."""

    entities: tuple[Entity, ...]
    common: tuple[Attribute, ...]

    def of_sector(self, sector: str) -> list[Entity]:
        """The entities of a sector, its own ones first."""
        own = [entity for entity in self.entities if sector in entity.sectors]
        return own + [entity for entity in self.entities if not entity.sectors]


@dataclass(frozen=True, slots=True)
class Industry:
    """An industry: its NAICS code and title."""

    code: str
    title: str

    @property
    def sector(self) -> str:
        """The first two digits."""
        return self.code[:2]


@dataclass(frozen=True, slots=True)
class Generated:
    """A table with its statement; `meanings` are by column's name and `WHOLE`, empty if unknown."""

    table: Table
    ddl: str
    use: str
    meanings: Mapping[str, str]


def read_industries(path: Path) -> list[Industry]:
    """Industries of a CSV file with the columns `code` and `title`: the six-digit ones, if there are any.

    Raises:
        SetupError: the file cannot be read or has no such rows.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SetupError(f"The industries {path} cannot be read: {error}.") from error
    industries = [
        Industry(code.strip(), title.strip())
        for row in rows
        if (code := row.get("code")) and (title := row.get("title")) and code.strip()[:2].isdigit()
    ]
    if not industries:
        raise SetupError(f"{path} lists no industries: it needs the columns code (NAICS) and title.")
    return [industry for industry in industries if len(industry.code) == 6] or industries


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a TOML file.

    Raises:
        SetupError: it cannot be read, or an attribute is not "words | kind | meaning"; names it.
    """
    content = read_toml(path, "The vocabulary")
    try:
        common = tuple(_attribute(text, path) for text in content["common"])
        entities = tuple(
            Entity(
                tuple(entry["name"].split()),
                entry["use"],
                entry["says"],
                frozenset(entry.get("sectors", ())),
                tuple(_attribute(text, path) for text in entry["attributes"]),
            )
            for entry in content["entity"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise SetupError(f"The vocabulary {path} lacks {error}: see data/industries/README.md.") from error
    return Vocabulary(entities, common)


def _attribute(text: str, path: Path) -> Attribute:
    parts = [part.strip() for part in text.split("|")]
    if len(parts) != 3 or parts[1] not in TYPES or not all(parts):
        raise SetupError(
            f'The vocabulary {path} has the attribute {text!r}; write "words | kind | meaning", the kind one of '
            f"{', '.join(TYPES)}."
        )
    return Attribute(tuple(parts[0].split()), parts[1], parts[2])


class Sampler:
    """Draws tables; the same industry, index and seed give the same table.

    Args:
        vocabulary: entities and attributes of the tables.
        seed: for all draws.
    """

    def __init__(self, vocabulary: Vocabulary, seed: int = 0) -> None:
        self.vocabulary = vocabulary
        self.seed = seed

    def sample(self, industry: Industry, index: int) -> Generated:
        """The table number `index` of an industry; all entities are used before one is repeated."""
        rng = random.Random(f"{self.seed}/{industry.code}/{index}")
        entities = self._turn(industry, index)
        entity = entities[index % len(entities)]
        style = Style.sample(rng)
        dialect = rng.choice(DIALECTS)
        attributes = self._attributes(entity, rng)
        names, meanings = _names(attributes, entity, style)
        source = _statement(style.table(entity.words), names, attributes, style, rng)
        ddl = _rendered(source, dialect, plain=style.case in ("snake", "upper"))
        table = parse_table(ddl, dialect)
        return Generated(table, ddl, entity.use, {WHOLE: entity.description, **meanings})

    def _turn(self, industry: Industry, index: int) -> list[Entity]:
        """The entities in the order of a turn: the sector's own first, then those of all sectors."""
        entities = self.vocabulary.of_sector(industry.sector)
        rng = random.Random(f"{self.seed}/{industry.code}/{index // len(entities)}")
        return sorted(entities, key=lambda entity: (not entity.sectors, rng.random()))

    def _attributes(self, entity: Entity, rng: random.Random) -> list[Attribute]:
        """The key first, then the entity's own, then common ones; small tables are more frequent than large ones."""
        pool = len(entity.attributes) + len(self.vocabulary.common)
        count = min(pool, MOST, FEWEST + int(rng.expovariate(1 / 9)))
        key, *own = entity.attributes
        if count - 1 <= len(own):
            return [key, *rng.sample(own, count - 1)]
        common = [attribute for attribute in self.vocabulary.common if attribute.words not in {a.words for a in own}]
        return [key, *own, *rng.sample(common, min(len(common), count - 1 - len(own)))]


def _names(attributes: Sequence[Attribute], entity: Entity, style: Style) -> tuple[list[str], dict[str, str]]:
    """Distinct names of the columns, and what each means."""
    names: list[str] = []
    meanings: dict[str, str] = {}
    taken: set[str] = set()
    for attribute in attributes:
        words = [*attribute.words, style.key] if attribute.kind == "ref" else list(attribute.words)
        name = style.column(words)
        while name.lower() in taken:
            name += "2"
        taken.add(name.lower())
        names.append(name)
        meanings[name] = attribute.meaning.replace("{it}", " ".join(entity.words))
    return names, meanings


def _statement(
    name: str, names: Sequence[str], attributes: Sequence[Attribute], style: Style, rng: random.Random
) -> str:
    """The statement in PostgreSQL's dialect, with every name quoted."""
    of_house = {kind: rng.choice(TYPES[kind]) for kind in ("flag", "ref")}  # yes and no, and keys, are written alike
    parts, tail = [], []
    for number, (column, attribute) in enumerate(zip(names, attributes, strict=True)):
        kind = of_house.get(attribute.kind) or rng.choice(TYPES[attribute.kind])
        required = " NOT NULL" if number == 0 or rng.random() < 0.3 else ""
        key = " PRIMARY KEY" if number == 0 and rng.random() < 0.7 else ""
        parts.append(f"{_quoted(column)} {kind}{required}{key}")
        if number == 0 and not key:
            tail.append(f"PRIMARY KEY ({_quoted(column)})")
        if attribute.kind == "ref" and style.declared:
            target = style.table(attribute.words)
            there = style.column([attribute.words[-1], style.key])
            tail.append(f"FOREIGN KEY ({_quoted(column)}) REFERENCES {_quoted(target)} ({_quoted(there)})")
    return f"CREATE TABLE {_quoted(name)} ({', '.join([*parts, *tail])})"


def _quoted(name: str) -> str:
    return identifier(name, dialect="postgres")


def _rendered(source: str, dialect: str, plain: bool) -> str:
    """The statement in its dialect; plain names lose their quotes, as people write them."""
    import sqlglot
    from sqlglot import exp

    (statement,) = sqlglot.parse(source, dialect="postgres")
    assert statement is not None
    if plain:
        for node in statement.find_all(exp.Identifier):
            node.set("quoted", False)
    return str(statement.sql(dialect, pretty=True))
