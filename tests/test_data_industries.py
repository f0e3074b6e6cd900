"""The industries, the vocabulary and the labelled tables that the project ships."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from synth_dspy.domains.tables.ddl import Statement, parse_script, run_in_duckdb
from synth_dspy.domains.tables.filters import repeats_name
from synth_dspy.domains.tables.generate import read_industries, read_vocabulary

DATA = Path(__file__).resolve().parents[1] / "data" / "industries"
SECTORS = set(re.findall(r"\d+", "11 21 22 23 31 32 33 42 44 45 48 49 51 52 53 54 55 56 61 62 71 72 81 92"))
SCRIPTS = sorted((DATA / "tables").glob("*.sql"))


def statements() -> list[Statement]:
    return [statement for path in SCRIPTS for statement in parse_script(path.read_text("utf-8"), path.stem)]


def test_there_are_sixty_industries_over_all_sectors() -> None:
    industries = read_industries(DATA / "naics.csv")
    assert len(industries) == len({industry.code for industry in industries}) >= 60
    assert {industry.sector for industry in industries} == SECTORS
    assert all(re.fullmatch(r"\d{6}", industry.code) for industry in industries)


def test_the_codes_are_those_of_the_census(shared_data: Path) -> None:
    official = {industry.code for industry in read_industries(shared_data / "naics" / "naics_2022.csv")}
    assert {industry.code for industry in read_industries(DATA / "naics.csv")} <= official


def test_every_sector_has_entities_of_its_own_and_meanings_are_not_names() -> None:
    vocabulary = read_vocabulary(DATA / "vocabulary.toml")
    for sector in sorted(SECTORS):
        assert any(sector in entity.sectors for entity in vocabulary.entities), sector
    names = Counter(entity.words for entity in vocabulary.entities)
    assert max(names.values()) == 1
    for entity in vocabulary.entities:
        assert entity.attributes[0].kind == "key"
        attributes = Counter(attribute.words for attribute in entity.attributes)
        assert max(attributes.values()) == 1, entity.words
    repeating = [
        attribute.words
        for entity in vocabulary.entities
        for attribute in entity.attributes
        if repeats_name(attribute.meaning, " ".join(attribute.words))
    ]
    assert repeating == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_labelled_tables_run_and_are_commented_throughout(path: Path) -> None:
    text = path.read_text("utf-8")
    made = parse_script(text, path.stem)
    assert len(made) >= 6
    for statement in made:
        table = statement.table
        assert table.comment, table.name
        assert [column.name for column in table.columns if not column.comment] == []
        assert len(table.columns) >= 4
        repeating = [c.name for c in table.columns if repeats_name(c.comment, c.name)]
        assert repeating == [], table.name
        assert max(len(column.comment.split()) for column in table.columns) <= 25
    for statement in re.findall(r"CREATE TABLE.*?;\n", text, re.S):
        run_in_duckdb(statement, path.stem)


def test_forty_labelled_tables_each_of_another_industry() -> None:
    made = statements()
    assert len(made) >= 40
    codes = [statement.remarks[-1] for statement in made]
    assert len(set(codes)) == len(codes)
    assert set(codes) <= {industry.code for industry in read_industries(DATA / "naics.csv")}
    assert len({statement.table.qualified for statement in made}) == len(made)
    comments = Counter(column.comment for statement in made for column in statement.table.columns)
    assert max(comments.values()) <= 2
