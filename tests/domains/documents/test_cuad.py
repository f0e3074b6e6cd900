"""CUAD: both layouts give the same questions; shares, references and spans are as promised."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.cleaning import normalise_space
from synth_dspy.domains.documents.cuad import _written_date, read_cuad

TEXT = (
    'ENDORSEMENT AGREEMENT\n\nThis Agreement is made on January 13, 2005 between TOM WATSON ("CONSULTANT") and ADAMS '
    "GOLF, LTD.\n\n1. Law. The laws of Texas govern\n\nthis Agreement.\n\n"
    "2. Insurance. CONSULTANT shall keep insured.\n"
)
LABELS: dict[str, tuple[list[str], str]] = {
    "Document Name": (["ENDORSEMENT AGREEMENT"], "ENDORSEMENT AGREEMENT"),
    "Parties": (["TOM WATSON", "ADAMS GOLF, LTD.", "CONSULTANT"], 'TOM WATSON ("CONSULTANT"); ADAMS GOLF, LTD.'),
    "Agreement Date": (["January 13, 2005"], "1/13/05"),
    "Effective Date": ([], ""),
    "Governing Law": (["The laws of Texas govern", "this Agreement."], "Texas"),
    "Insurance": (["CONSULTANT shall keep insured."], "Yes"),
    "Audit Rights": ([], "No"),
}


def starts(answers: list[str]) -> list[int]:
    law = TEXT.index("The laws")
    return [TEXT.index(answer, law if answer == "this Agreement." else 0) for answer in answers]


def own_layout(folder: Path, count: int = 1) -> Path:
    (folder / "contracts").mkdir(parents=True)
    lines = []
    for n in range(count):
        (folder / "contracts" / f"c{n}.txt").write_text(TEXT)
        lines += [
            {"contract": f"c{n}", "title": f"Contract {n}", "category": category, "answers": answers,
             "answer_starts": starts(answers), "normalized_answer": short, "is_impossible": not answers}
            for category, (answers, short) in LABELS.items()
        ]  # fmt: skip
    (folder / "clauses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def publishers_layout(file: Path) -> Path:
    qas = [
        {"id": f"Contract 0__{category}", "question": f'Highlight the parts related to "{category}"',
         "answers": [{"text": a, "answer_start": s} for a, s in zip(answers, starts(answers), strict=True)],
         "is_impossible": not answers}
        for category, (answers, _) in LABELS.items()
    ]  # fmt: skip
    data = {"version": "aok_v1.0", "data": [{"title": "Contract 0", "paragraphs": [{"context": TEXT, "qas": qas}]}]}
    file.write_text(json.dumps(data))
    return file


def test_references_are_spans_and_the_experts_short_form(tmp_path: Path) -> None:
    (document,), rows = read_cuad(own_layout(tmp_path / "cuad"), unanswerable=0.4, yes_no=0)
    by_category = {row["category"]: row for row in rows}
    assert document.id == "c0"
    assert by_category["Agreement Date"]["references"] == ["January 13, 2005", "1/13/05"]
    assert by_category["Agreement Date"]["answer_type"] == "date"
    assert by_category["Parties"]["references"][0] == "TOM WATSON and ADAMS GOLF, LTD."
    assert by_category["Governing Law"]["references"] == ["Texas", "The laws of Texas govern this Agreement."]
    assert by_category["Governing Law"]["spans"] == ["The laws of Texas govern", "this Agreement."]
    assert by_category["Insurance"]["references"] == ["CONSULTANT shall keep insured."]
    silent = [row for row in rows if row["answer_type"] == "none"]
    assert silent
    assert all(row["references"] == row["spans"] == [] for row in silent)
    assert len({row["id"] for row in rows}) == len(rows)


def test_the_experts_date_is_accepted_as_contracts_write_it() -> None:
    assert _written_date("12/31/18") == "December 31, 2018"
    assert _written_date("9/1/1998") == "September 1, 1998"
    for as_it_is in ("perpetual", "2/30/2011", "successive 5 years", ""):
        assert _written_date(as_it_is) == as_it_is


def test_both_layouts_agree(tmp_path: Path) -> None:
    _, own = read_cuad(own_layout(tmp_path / "own"), unanswerable=0, yes_no=0)
    for path in (publishers_layout(tmp_path / "CUAD_v1.json"), tmp_path):
        (document,), rows = read_cuad(path, unanswerable=0, yes_no=0)
        assert document.title == "Contract 0"
        assert [(r["category"], r["spans"]) for r in rows] == [(r["category"], r["spans"]) for r in own]
        assert rows[2]["references"] == ["January 13, 2005"]


def test_limit_takes_a_fixed_order(tmp_path: Path) -> None:
    path = own_layout(tmp_path / "cuad", 12)
    few = [document.id for document in read_cuad(path, 4)[0]]
    more = [document.id for document in read_cuad(path, 8)[0]]
    assert len(few) == 4
    assert more[:4] == few
    assert few != sorted(few)


def test_only_some_categories_are_asked_about(tmp_path: Path) -> None:
    path = own_layout(tmp_path / "cuad", 3)
    documents, rows = read_cuad(path, categories=["Governing Law", "Parties"])
    assert len(documents) == 3
    assert {row["category"] for row in rows} <= {"Governing Law", "Parties"}
    assert rows
    with pytest.raises(SetupError, match="no category 'Law'; it has Document Name, Parties"):
        read_cuad(path, categories=["Law"])


def test_bad_folders_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"neither CUAD_v1\.json nor clauses\.jsonl"):
        read_cuad(tmp_path)
    (tmp_path / "CUAD_v1.json").write_text("{}")
    with pytest.raises(SetupError, match="not in either of its layouts"):
        read_cuad(tmp_path)
    path = own_layout(tmp_path / "cuad")
    (path / "contracts" / "c0.txt").unlink()
    with pytest.raises(SetupError, match="No such file"):
        read_cuad(path)


def test_public_contracts(shared_data: Path) -> None:
    documents, rows = read_cuad(shared_data / "cuad", 20)
    assert len(documents) == 20
    text = {document.id: normalise_space(document.text) for document in documents}
    assert all(normalise_space(span) in text[row["document"]] for row in rows for span in row["spans"])
    kinds = Counter(row["answer_type"] for row in rows)
    assert 0.08 <= kinds["none"] / len(rows) <= 0.22
    yes_no = [row["references"] for row in rows if row["answer_type"] == "yes_no"]
    assert 0.03 <= len(yes_no) / len(rows) <= 0.15
    assert yes_no.count(["Yes"]) == yes_no.count(["No"])
