"""The contract corpus in `data/contracts/` keeps its promises: verbatim spans, honest references, varied documents."""

from __future__ import annotations

import calendar
import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1] / "data" / "contracts"
FIELDS = {"id", "document", "question", "references", "spans", "category", "answer_type"}
ANSWER_TYPES = {"name", "date", "amount", "period", "law", "party", "clause", "yes_no", "none"}
# The 41 categories of CUAD v1, spelt as its publisher's data sets spell them.
CATEGORIES = {
    line.strip()
    for line in """
    Document Name
    Parties
    Agreement Date
    Effective Date
    Expiration Date
    Renewal Term
    Notice Period to Terminate Renewal
    Governing Law
    Most Favored Nation
    Competitive Restriction Exception
    Non-Compete
    Exclusivity
    No-Solicit of Customers
    No-Solicit of Employees
    Non-Disparagement
    Termination for Convenience
    Rofr/Rofo/Rofn
    Change of Control
    Anti-Assignment
    Revenue/Profit Sharing
    Price Restrictions
    Minimum Commitment
    Volume Restriction
    IP Ownership Assignment
    Joint IP Ownership
    License Grant
    Non-Transferable License
    Affiliate License-Licensor
    Affiliate License-Licensee
    Unlimited/All-You-Can-Eat-License
    Irrevocable or Perpetual License
    Source Code Escrow
    Post-Termination Services
    Audit Rights
    Uncapped Liability
    Cap on Liability
    Liquidated Damages
    Warranty Duration
    Insurance
    Covenant Not to Sue
    Third Party Beneficiary
    """.strip().splitlines()
}
MONTHS = [name for name in calendar.month_name if name]
ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
WORDS = {w: i for i, w in enumerate(ONES)} | {w: 10 * (i + 2) for i, w in enumerate(TENS)}
SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}

Row = dict[str, Any]


def load_documents() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "documents").iterdir())}


def load_questions() -> list[Row]:
    return [json.loads(line) for line in (ROOT / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


DOCUMENTS = load_documents()
QUESTIONS = load_questions()


def quantities(text: str) -> set[float | str]:
    """Numbers and month names in `text`, in one form: words become digits, "2 million" 2000000, years months.

    A number followed by "year(s)" becomes "<n x 12> months", so that "five years" equals "60 months". A month's name
    counts only with its capital: "may" is seldom a month in a contract.
    """
    text = text.replace("year to year", "one year")
    stated_values: set[float | str] = {month for month in MONTHS if re.search(rf"\b{month}\b", text)}
    tokens = re.findall(r"\d[\d,]*(?:\.\d+)?|[a-z]+", text.lower())
    group: float | None = None  # the number being read, below the next thousand or million
    total = 0.0
    for token in [*tokens, "."]:
        if token[0].isdigit():
            if group is not None:  # "22, 2022" or "five (5)": a second number begins
                stated_values.add(total + group)
                total = 0.0
            group = float(token.replace(",", ""))
        elif token in WORDS:
            group = (group or 0) + WORDS[token]
        elif token in SCALES and group is not None:
            if token == "hundred":
                group *= 100
            else:
                total += group * SCALES[token]
                group = 0
        elif group is not None:
            value, group, total = total + group, None, 0.0
            if token in {"year", "years"}:
                stated_values.add(f"{value * 12:g} months")
            elif token in {"month", "months"}:
                stated_values.add(f"{value:g} months")
            else:
                stated_values.add(value)
    return stated_values


def shingles(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def bare(text: str) -> str:
    """Lower case, words only, so that one can look for a phrase at word boundaries."""
    words = re.findall(r"[^\W_]+(?:[.,]\d+)*%?", text.lower())
    return f" {' '.join(words)} "


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("one hundred eighty days", "180 days", True),
        ("five (5) years", "five (5) years", True),
        ("five years", "60 months", True),
        ("$1.5 million", "one million five hundred thousand dollars", True),
        ("this 23rd day of January, 2019", "January 23, 2019", True),
        ("from year to year", "one year", True),
        ("3 May 2024", "3 March 2024", False),
        ("August 22, 2022", "22 August 2022", True),
        ("it may end in 2024", "May 2024", False),
        ("EUR 1,500,000", "EUR 1,600,000", False),
        ("six months", "six days", False),
    ],
)
def test_quantities_equate_forms_and_tell_values_apart(left: str, right: str, same: bool) -> None:
    assert (quantities(left) == quantities(right)) is same


def test_the_corpus_is_large_enough() -> None:
    assert len(DOCUMENTS) >= 16
    assert len(QUESTIONS) >= 160
    per_document = Counter(row["document"] for row in QUESTIONS)
    assert set(per_document) == set(DOCUMENTS)
    assert min(per_document.values()) >= 9


def test_documents_are_short_and_have_unique_stems() -> None:
    lengths = {stem: len(text.split()) for stem, text in DOCUMENTS.items()}
    assert len(DOCUMENTS) == len(list((ROOT / "documents").iterdir()))
    assert {stem: n for stem, n in lengths.items() if not 350 <= n <= 900} == {}


def test_no_two_documents_are_near_duplicates() -> None:
    sets = {stem: shingles(text) for stem, text in DOCUMENTS.items()}
    overlap = {(a, b): len(sets[a] & sets[b]) / min(len(sets[a]), len(sets[b])) for a, b in combinations(sets, 2)}
    assert {pair: share for pair, share in overlap.items() if share > 0.05} == {}


def test_rows_have_the_documented_fields() -> None:
    assert [row["id"] for row in QUESTIONS if set(row) != FIELDS] == []
    assert [row["id"] for row in QUESTIONS if row["answer_type"] not in ANSWER_TYPES] == []
    assert [row["id"] for row in QUESTIONS if row["category"] not in CATEGORIES] == []
    assert [row["id"] for row in QUESTIONS if not row["id"].startswith(f"{row['document']}-")] == []
    assert [key for key, n in Counter(row["id"] for row in QUESTIONS).items() if n > 1] == []


def test_every_span_is_verbatim_in_its_document() -> None:
    absent = [(row["id"], span) for row in QUESTIONS for span in row["spans"] if span not in DOCUMENTS[row["document"]]]
    assert absent == []


def test_answerable_rows_have_references_and_spans_and_silent_ones_have_neither() -> None:
    for row in QUESTIONS:
        answerable = row["answer_type"] != "none"
        assert bool(row["references"]) is answerable, row["id"]
        assert bool(row["spans"]) is answerable, row["id"]
        assert all(text.strip() == text and text for text in [row["question"], *row["references"], *row["spans"]])
        assert len(set(row["references"])) == len(row["references"]), row["id"]


def test_silent_categories_are_not_answered_elsewhere_in_the_same_document() -> None:
    answered = {(row["document"], row["category"]) for row in QUESTIONS if row["references"]}
    silent = {(row["document"], row["category"]) for row in QUESTIONS if not row["references"]}
    assert answered & silent == set()


def test_numbers_and_dates_of_references_stand_in_the_spans() -> None:
    wrong = [
        (row["id"], reference, sorted(map(str, missing)))
        for row in QUESTIONS
        if row["answer_type"] in {"date", "amount", "period"}
        for reference in row["references"]
        if (missing := quantities(reference) - quantities(" ; ".join(row["spans"])))
    ]
    assert wrong == []
    unquantified = [
        row["id"]
        for row in QUESTIONS
        if row["answer_type"] in {"date", "amount", "period"} and not quantities(row["references"][0])
    ]
    assert unquantified == []


def test_every_reference_of_a_date_names_the_same_day() -> None:
    dates = [row for row in QUESTIONS if row["answer_type"] == "date"]
    assert [row["id"] for row in dates if len({frozenset(quantities(text)) for text in row["references"]}) != 1] == []
    assert [row["id"] for row in dates if len(quantities(row["references"][0])) != 3] == []


def test_names_and_parties_stand_in_the_spans() -> None:
    wrong = [
        row["id"]
        for row in QUESTIONS
        if row["answer_type"] in {"name", "party"}
        and not all(bare(part) in bare(" ".join(row["spans"])) for part in row["references"][0].split(" and "))
    ]
    assert wrong == []


def test_questions_do_not_give_the_answer_away() -> None:
    leaks = [
        (row["id"], reference)
        for row in QUESTIONS
        if row["answer_type"] != "yes_no"
        for reference in row["references"]
        if bare(reference) in bare(row["question"])
    ]
    assert leaks == []


def test_the_mix_of_questions_is_varied() -> None:
    n = len(QUESTIONS)
    types = Counter(row["answer_type"] for row in QUESTIONS)
    assert types["none"] / n >= 0.08
    assert types["yes_no"] / n <= 0.10
    assert sum(types[kind] for kind in ("name", "date", "amount", "period", "law", "party")) / n >= 0.65
    assert len({row["category"] for row in QUESTIONS}) >= 25
    yes_no = Counter(row["references"][0] for row in QUESTIONS if row["answer_type"] == "yes_no")
    assert set(yes_no) == {"Yes", "No"}
    phrasings = Counter(row["question"] for row in QUESTIONS)
    assert max(phrasings.values()) <= 3
