"""What a teacher is asked, what becomes of its replies, and what the filters let through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest
from dspy import lm15

from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.domains.tables.filters import (
    Identifies,
    Means,
    NothingInvented,
    Runs,
    SaidAlready,
    SaysMore,
    WellWritten,
    invented_names,
    repeats_name,
)
from synth_dspy.domains.tables.generate import Generated, Sampler, read_vocabulary
from synth_dspy.domains.tables.labelled import row_fields
from synth_dspy.domains.tables.schema import WHOLE, Column, Table
from synth_dspy.domains.tables.source import Industries
from synth_dspy.domains.tables.synthesizer import TableSynthesizer, statement_in, use_cases
from synth_dspy.domains.tables.units import IndustryItem, TableItem, TableUnit
from synth_dspy.synthesis.pipeline import synthesise

DATA = Path(__file__).resolve().parents[3] / "data" / "industries"
SAMPLER = Sampler(read_vocabulary(DATA / "vocabulary.toml"))


class Teacher:
    """An engine that answers by what it is asked for, and remembers what that was."""

    def __init__(self, statement: str = "CREATE TABLE visits (visit_id INT PRIMARY KEY, pat_no INT)") -> None:
        self.statement = statement
        self.asked: list[str] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        prompt = "".join(part.text for part in request.messages[-1].parts)
        self.asked.append(prompt)
        reply = "Says what the row is about"
        if "Meaning: " in prompt:
            reply = prompt.partition("Meaning: ")[2].capitalize()
        elif "Use Case: " in prompt:
            reply = f"```sql\n{self.statement};\n```"
        elif prompt.startswith("Industry: "):
            reply = "1. Patient visits\n2. Billing\n- Stock of drugs"
        message = lm15.Message.assistant([lm15.TextPart(reply)])
        usage = lm15.Usage(input_tokens=1, output_tokens=1)
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


def taught(synthesizer: TableSynthesizer, teacher: Teacher) -> TableSynthesizer:
    synthesizer.set_lm(dspy.LM("test/teacher", engine=teacher, cache=False))
    return synthesizer


def items(limit: int = 6) -> list[Item]:
    return list(Industries(DATA).read(limit).items)


def candidate(
    comment: str, focus: str = "net_amt", meaning: str | None = "total before tax", **extra: Any
) -> Candidate:
    table = Table("inv", (Column("inv_no", "INT"), Column("net_amt", "DECIMAL"), Column("paid_on", "DATE")))
    meanings = {} if meaning is None else {focus: meaning, "inv_no": "number of the bill", "paid_on": "day of payment"}
    made = Generated(
        table, extra.pop("ddl", "CREATE TABLE inv (inv_no INT, net_amt DECIMAL, paid_on DATE)"), "", meanings
    )
    fields = row_fields(table, focus)
    category = fields.pop("category")
    return Candidate(comment, TableUnit("i", "111110", "Farming", made), {**fields, "comment": comment}, category)


def bag(texts: Any) -> np.ndarray:
    """Unit vectors of letters' counts: equal texts are equal, and that is enough here."""
    rows = np.array([[text.lower().count(chr(97 + n)) + 1e-6 for n in range(26)] for text in texts], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_small_teacher_words_meanings_that_are_known() -> None:
    teacher = Teacher()
    synthesizer = taught(TableSynthesizer(SAMPLER, per_table=3), teacher)
    filters = [Runs(), WellWritten(), SaysMore(), NothingInvented(), Means(bag), Identifies(bag, among=40)]
    made = synthesise(items(), synthesizer, filters, executor=Executor(2), limit=12)
    assert len(made.candidates) == 12
    assert made.filters[0].kept == 12
    assert made.filters[4].kept == made.filters[4].judged > 6  # said as it is meant
    row = made.kept[0]
    assert set(row.inputs().keys()) == {"table", "column"}
    assert row.references == [row.comment] == [row.answer]
    assert all("Use Case" not in prompt for prompt in teacher.asked)
    assert {candidate.category for candidate in made.candidates} >= {"table", "column"}


def test_a_capable_teacher_writes_use_cases_then_statements_then_comments() -> None:
    teacher = Teacher()
    synthesizer = taught(TableSynthesizer(SAMPLER, free=True, per_table=3, samples=1), teacher)
    made = synthesise(items(2), synthesizer, [Runs()], executor=Executor(1), limit=6)
    statements = [prompt for prompt in teacher.asked if "Use Case: " in prompt]
    assert [prompt.partition("Use Case: ")[2].split("\n")[0] for prompt in statements] == ["Patient visits"] * 2
    assert all("Dialect: " in prompt and "Style: " in prompt for prompt in statements)
    assert [candidate.fields["column"] for candidate in made.candidates[:1]] == [WHOLE]
    assert sorted(row.focus for row in made.kept) == ["pat_no", "pat_no", "visit_id", "visit_id", "visits", "visits"]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE TABLE visits (id INT,", "does not parse"),
        ("CREATE TABLE visits (id INT, PRIMARY KEY (gone))", "does not run"),
    ],
)
def test_statements_that_fail_are_dropped_and_counted(statement: str, reason: str) -> None:
    synthesizer = taught(TableSynthesizer(SAMPLER, free=True, per_table=1, samples=1), Teacher(statement))
    made = synthesise(items(3), synthesizer, [Runs()], executor=Executor(1), limit=3)
    assert made.kept == ()
    assert made.filters[0].reasons == {reason: 3}


def test_the_users_own_tables_come_first_and_only_what_lacks_a_comment_is_written() -> None:
    columns = (Column("a", "INT", comment="There already"), Column("b", "INT"))
    own = TableItem("table/own", "own", "own (a, b)", Table("own", columns), write=True)
    synthesizer = taught(TableSynthesizer(SAMPLER), Teacher())
    units = synthesizer.plan([*items(2), own], 8)
    assert units[0].group == "own"
    assert [candidate.fields["focus"] for candidate in synthesizer(own)] == ["own", "b"]


def test_many_examples_take_several_tables_of_each_industry_and_no_two_units_are_one() -> None:
    synthesizer = TableSynthesizer(SAMPLER, per_table=4)
    units = synthesizer.plan(items(5), 100)
    assert len(units) == len({unit.id for unit in units}) == 25
    assert {unit.turn for unit in units} == {0, 1, 2, 3, 4}


def test_a_few_units_are_of_as_many_sectors() -> None:
    units = TableSynthesizer(SAMPLER, per_table=4).plan(Industries(DATA).read().items, 32)
    assert len({unit.group[:2] for unit in units}) == len(units) == 8


def test_what_is_read_out_of_a_reply() -> None:
    assert use_cases("1. Fleet upkeep\n2) **Fuel cards**\n\n- Tyres") == ["Fleet upkeep", "Fuel cards", "Tyres"]
    assert statement_in("Sure!\n```sql\nCREATE TABLE a (x INT);\n```\nDone.") == "CREATE TABLE a (x INT)"
    assert statement_in("Here: create table a (x INT); -- end") == "create table a (x INT)"


@pytest.mark.parametrize(
    ("judge", "comment", "keep", "why"),
    [
        (WellWritten(), "Total of the bill before tax", True, ""),
        (WellWritten(), "Total", False, "too short or too long"),
        (WellWritten(), "word " * 31, False, "too short or too long"),
        (WellWritten(), "Sure, here is the comment", False, "not a comment"),
        (WellWritten(), "What is the total?", False, "not a comment"),
        (WellWritten(), "the total the total the total of it all", False, "repeats itself"),
        (SaysMore(), "Net amount", False, "repeats the name"),
        (SaysMore(), "The net_amt column", False, "repeats the name"),
        (SaysMore(), "Net amount before tax", True, ""),
        (NothingInvented(), "Sum of inv_lines.price", False, "invented name"),
        (NothingInvented(), "Belongs to inv_no", True, ""),
        (NothingInvented(), "Total with 19 percent tax", False, "invented number"),
        (Means(bag), "Total before tax", True, ""),
        (Means(bag), "Tax", False, "says something else"),
        (Means(bag), "Total of the milk quota before tax", False, "invented words: milk, quota"),
        (Identifies(bag, among=1), "total before tax", True, ""),
        (Identifies(bag, among=1), "day of payment", False, "fits other columns better"),
    ],
)
def test_filters_of_comments(judge: Any, comment: str, keep: bool, why: str) -> None:
    verdict = judge(candidate(comment))
    assert verdict.keep is keep
    assert verdict.why.startswith(why)


def test_the_same_comment_on_the_same_name_is_kept_once() -> None:
    judge = SaidAlready()
    assert judge(candidate("Total before tax")).keep
    assert not judge(candidate("total before tax.")).keep
    assert judge(candidate("Total before tax", focus="paid_on")).keep


def test_names_and_repetition() -> None:
    assert repeats_name("Customer number", "CUST_NO")
    assert repeats_name("The customers' numbers", "customerNumber")
    assert not repeats_name("Number of the customer who pays", "CUST_NO")
    assert invented_names("See OrderHeader.OrderId and ship_to", ["OrderHeader", "OrderId"]) == ["ship_to"]
    assert invented_names("See OrderHeader", ["Sales.OrderHeader"]) == []
    assert invented_names("iPhone", []) == ["iPhone"]
    assert invented_names("The ISO code, McGraw excepted? no: PostgreSQL", ["x"]) != []


def test_generated_rows_of_the_vocabulary_pass_the_checks_with_their_own_meanings() -> None:
    """A perfect wording must not be rejected: what the meaning says is kept for nearly every column."""
    kept = judged = 0
    industry = Industries(DATA).read(3).items[-1]
    assert isinstance(industry, IndustryItem)
    for number in range(40):
        made = SAMPLER.sample(industry.industry, number)
        for focus, meaning in made.meanings.items():
            fields = {**row_fields(made.table, focus), "comment": meaning[0].upper() + meaning[1:]}
            category = fields.pop("category")
            one = Candidate("c", TableUnit("i", "g", "", made), fields, category)
            judged += 1
            kept += all(check(one).keep for check in (WellWritten(), SaysMore(), NothingInvented()))
    assert kept / judged > 0.93
