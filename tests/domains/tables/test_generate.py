"""Generated tables: valid in their dialects, varied, the same under the same seed, and their meanings known."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.tables.ddl import parse_table, run_in_duckdb
from synth_dspy.domains.tables.generate import (
    DIALECTS,
    FEWEST,
    MOST,
    Generated,
    Industry,
    Sampler,
    Vocabulary,
    read_industries,
    read_vocabulary,
)
from synth_dspy.domains.tables.naming import Style, abbreviated, plural
from synth_dspy.domains.tables.schema import WHOLE, line, view, words

DATA = Path(__file__).resolve().parents[3] / "data" / "industries"


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return read_vocabulary(DATA / "vocabulary.toml")


@pytest.fixture(scope="module")
def tables(vocabulary: Vocabulary) -> list[Generated]:
    sampler = Sampler(vocabulary, 3)
    industries = read_industries(DATA / "naics.csv")
    return [sampler.sample(industries[n % len(industries)], n // len(industries)) for n in range(150)]


def test_every_statement_parses_in_its_dialect_and_runs(tables: list[Generated]) -> None:
    for made in tables:
        run_in_duckdb(made.ddl, made.table.dialect)
        assert parse_table(made.ddl, made.table.dialect) == made.table


def test_dialects_sizes_and_styles_vary(tables: list[Generated]) -> None:
    sizes = [len(made.table.columns) for made in tables]
    assert min(sizes) == FEWEST
    assert 25 < max(sizes) <= MOST
    assert {made.table.dialect for made in tables} == set(DIALECTS)
    names = [made.table.name for made in tables]
    assert any(name.isupper() for name in names)
    assert any("_" in name for name in names)
    assert any(name[0].isupper() and not name.isupper() for name in names)
    assert sum(any(column.references for column in made.table.columns) for made in tables) > 30
    assert len({made.ddl for made in tables}) == len(tables)


def test_the_meaning_of_every_column_and_of_the_table_is_known(tables: list[Generated]) -> None:
    for made in tables:
        assert set(made.meanings) == {WHOLE, *(column.name for column in made.table.columns)}
        assert not any("{" in meaning for meaning in made.meanings.values())


def test_the_same_seed_gives_the_same_tables(vocabulary: Vocabulary) -> None:
    industry = Industry("622110", "Hospitals")
    assert Sampler(vocabulary, 1).sample(industry, 4) == Sampler(vocabulary, 1).sample(industry, 4)
    assert Sampler(vocabulary, 1).sample(industry, 4) != Sampler(vocabulary, 2).sample(industry, 4)


def test_what_is_of_the_sector_comes_before_what_is_everywhere(vocabulary: Vocabulary) -> None:
    sampler = Sampler(vocabulary, 0)
    uses = [sampler.sample(Industry("622110", "Hospitals"), n).use for n in range(12)]
    assert set(uses[:3]) == {"patient administration", "care records", "appointments"}
    assert len(set(uses)) == len(uses)
    assert sampler.sample(Industry("622110", "Hospitals"), 12).use in uses[:3]


@pytest.mark.parametrize(
    ("style", "table", "column"),
    [
        (Style(), "work_orders", "due_date"),
        (Style("camel"), "workOrders", "dueDate"),
        (Style("pascal", plural=False), "WorkOrder", "DueDate"),
        (Style("upper", 1.0, "T_"), "T_WRK_ORD", "DUE_DT"),
        (Style("snake", 1.0, "tbl_"), "tbl_wrk_ord", "due_dt"),
    ],
)
def test_styles_of_names(style: Style, table: str, column: str) -> None:
    assert style.table(("work", "order")) == table
    assert style.column(("due", "date")) == column


def test_words_of_names() -> None:
    assert words("CustomerID_2") == ["customer", "id", "2"]
    assert words("HTTPServerName") == ["http", "server", "name"]
    assert words("ord_dt") == ["ord", "dt"]
    assert words("größe") == ["größe"]
    assert (abbreviated("quantity"), abbreviated("calibration"), abbreviated("year")) == ("qty", "clbrtn", "yr")
    assert (plural("company"), plural("branch"), plural("day")) == ("companies", "branches", "days")


def test_a_prompt_shows_a_few_columns_next_to_the_one_in_question() -> None:
    table = parse_table(f"CREATE TABLE wide ({', '.join(f'c{n} INT' for n in range(100))})", "duckdb")
    assert view(table).startswith("wide (c0, c1,")
    shown = view(table, "c50")
    assert "c50" in shown
    assert shown.count("c") == 10
    assert shown.startswith("wide (..., ")
    assert shown.endswith(", ...)")
    assert view(table, "c99").endswith("c99)")
    assert line(table, WHOLE) == WHOLE
    assert line(table, "c7") == "c7 int"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("common = [\n", "not valid TOML"),
        ("entity = []", "lacks 'common'"),
        ('common = ["created at | moment | when"]\nentity = []', "words | kind | meaning"),
        ('common = ["created at | time"]\nentity = []', "words | kind | meaning"),
    ],
)
def test_a_vocabulary_that_is_wrong_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "v.toml").write_text(content)
    with pytest.raises(SetupError, match=says.replace("|", r"\|")):
        read_vocabulary(tmp_path / "v.toml")


def test_industries_without_a_code_are_refused_and_six_digits_win(tmp_path: Path) -> None:
    path = tmp_path / "n.csv"
    path.write_text("sector,name\n11,Farming\n")
    with pytest.raises(SetupError, match="code"):
        read_industries(path)
    path.write_text("level,code,title\n2,11,Agriculture\n6,111110,Soybean Farming \n")
    assert read_industries(path) == [Industry("111110", "Soybean Farming")]


def test_the_census_list_is_read(shared_data: Path) -> None:
    industries = read_industries(shared_data / "naics" / "naics_2022.csv")
    assert len(industries) > 900
    assert len({industry.sector for industry in industries}) >= 23
