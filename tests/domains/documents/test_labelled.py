"""Labelled questions in three fields: what is read and looked up, and the sentence for each way of being wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents import source
from synth_dspy.domains.documents.labelled import check_labels, read_labels
from synth_dspy.domains.documents.source import Documents

LEASE = """# Lease

The lease ends on 31 March 2027. The rent is paid on the first day of each month.
A deposit of two months' rent is returned within 30 days. Repairs are announced “in writing”, 30 days ahead."""
RULES = "# House rules\nThe laundry is open from 8:00 to 20:00. Bicycles stand in the yard."
DOCUMENTS = [Document("lease", "lease", LEASE, "flat/lease.md"), Document("rules", "rules", RULES, "rules.txt")]


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def read(tmp_path: Path, *lines: dict[str, Any], abstain: str = "") -> list[dict[str, Any]]:
    return read_labels(write(tmp_path / "seeds.jsonl", *lines), DOCUMENTS, abstain)


def label(**fields: Any) -> dict[str, Any]:
    return {"question": "When does the lease end?", "answer": "31 March 2027", "document": "lease", **fields}


def test_three_fields_suffice_and_the_span_is_looked_up(tmp_path: Path) -> None:
    (row,) = read(tmp_path, label())
    assert row["references"] == row["spans"] == ["31 March 2027"]
    assert (row["document"], row["category"], row["answer_type"]) == ("lease", "", "answer")
    assert row["id"] == read(tmp_path, label())[0]["id"], "the same question has the same id in every run"


@pytest.mark.parametrize("name", ["lease", "lease.md", "flat/lease.md"])
def test_a_document_is_named_by_its_file_with_or_without_the_ending(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, label(document=name))[0]["document"] == "lease"


def test_csv_with_a_header_and_a_byte_order_mark_is_read_as_spreadsheets_write_it(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    path.write_text(
        "\ufeffquestion,references,document,spans\n"
        '"When, exactly, does it end?","[""31 March 2027"", ""2027""]",lease,\n'
        "Is there a pool?,[],rules,\n",
        encoding="utf-8",
    )
    first, second = read_labels(path, DOCUMENTS)
    assert first["references"] == ["31 March 2027", "2027"]
    assert (second["references"], second["answer_type"]) == ([], "none")


def test_an_answer_that_stands_in_several_places_is_found_where_the_question_is_answered(tmp_path: Path) -> None:
    deposit = read(tmp_path, label(question="When is the deposit returned?", answer="30 days"))[0]
    repairs = read(tmp_path, label(question="How long ahead are repairs announced in writing?", answer="30 days"))[0]
    assert deposit["spans"][0].startswith("A deposit of two months' rent is returned within 30 days.")
    assert "Repairs are announced" in repairs["spans"][0]


def test_a_span_may_differ_in_case_white_space_and_quotation_marks_and_is_kept_as_it_stands(tmp_path: Path) -> None:
    (row,) = read(tmp_path, label(spans=['repairs are\n announced "in writing"']))
    assert row["spans"] == ["Repairs are announced “in writing”"]


def test_answers_in_other_words_and_yes_or_no_have_no_span(tmp_path: Path) -> None:
    other, no = read(tmp_path, label(answer="the end of March"), label(question="Is there a pool?", answer="No"))
    assert (other["spans"], no["spans"], no["answer_type"]) == ([], [], "yes_no")


def test_silence_is_said_by_no_references_or_in_the_task_s_words(tmp_path: Path) -> None:
    rows = read(
        tmp_path,
        label(references=[]),
        label(question="What does it cost?", answer="the document does not say"),
        abstain="The document does not say.",
    )
    assert [row["references"] for row in rows] == [[], []]


def test_a_spreadsheet_s_separator_and_the_case_of_its_columns_do_not_matter(tmp_path: Path) -> None:
    header, *rows = ["Question,ANSWER, Document ", "When does it end?,31 March 2027,lease", "Is there a pool?,,rules"]
    expected = None
    for name, separator in (("q.csv", ","), ("q.csv", ";"), ("q.csv", "\t"), ("q.tsv", "\t")):
        path = tmp_path / name
        path.write_text("\r\n".join([header, *rows]).replace(",", separator), encoding="utf-8-sig")
        read = [(row["question"], row["document"], row["references"]) for row in read_labels(path, DOCUMENTS)]
        assert read == (expected := expected or read)
    assert expected == [("When does it end?", "lease", ["31 March 2027"]), ("Is there a pool?", "rules", [])]


def test_an_empty_cell_or_a_dash_says_that_the_document_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text("question,answer,document\nA?,31 March 2027,lease\nB?,,lease\nC?,-,lease\n", encoding="utf-8")
    check_labels(path)
    rows = read_labels(path, DOCUMENTS)
    assert [(row["references"], row["answer_type"]) for row in rows[1:]] == [([], "none")] * 2
    assert read(tmp_path, label(answer="-"))[0]["references"] == []
    path.write_text("question,answer,document\nB?,,lease\n", encoding="utf-8")  # nothing is labelled here
    with pytest.raises(SetupError, match=r"has neither .* \(the answer '-' where the document does not say\)"):
        check_labels(path)


def test_what_a_row_says_itself_stays_and_further_fields_are_kept(tmp_path: Path) -> None:
    (row,) = read(tmp_path, label(id=7, category="End", answer_type="date", note="mine", spans=["ends on 31 March"]))
    assert (row["id"], row["category"], row["answer_type"], row["note"]) == ("7", "End", "date", "mine")
    assert row["spans"] == ["ends on 31 March"]


def test_a_line_separator_inside_a_string_ends_no_line_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", label(question="When does\u2028it end?\x85"), label())
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\r\n\n"), encoding="utf-8")
    assert [row["question"] for row in read_labels(path, DOCUMENTS)] == [
        "When does\u2028it end?\x85",
        "When does the lease end?",
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"question": " "}, "field 'question' is \" \"; make it a string that is not empty"),
        ({"references": [3]}, "it must hold only strings"),
        ({"answer": None}, "has neither 'answer' nor 'references'"),
        ({"document": "leese"}, "'document' is \"leese\"; but no such document was read"),
        ({"id": "q1"}, "id 'q1' is also used in line 1"),
        (
            {"spans": ["the lease ends on 31 March 2028"]},
            "the span 'the lease ends on 31 March 2028' is not in the document 'lease'; the nearest there is "
            "'The lease ends on 31 March 2027.'",
        ),
        ({"spans": ["Bicycles stand in the yard"]}, "is not in the document 'lease'; it stands in 'rules'"),
        ({"spans": ["zebra"], "document": None}, "is not in any document; nothing there is like it"),
    ],
)
def test_a_wrong_line_is_named_with_what_is_wrong(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError) as error:
        read(tmp_path, label(id="q1"), label(**fields))
    assert f"{tmp_path / 'seeds.jsonl'}, line 2: " in str(error.value)
    assert message in str(error.value)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "seeds.csv").write_text("frage,answer\nWhen?,now\n", encoding="utf-8")
    with pytest.raises(SetupError, match="line 1: the column 'question' is missing; the columns are frage, answer"):
        read_labels(tmp_path / "seeds.csv", DOCUMENTS)


def test_other_failures_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        read_labels(tmp_path / "none.jsonl", DOCUMENTS)
    (tmp_path / "broken.jsonl").write_text('{"id": \n')
    with pytest.raises(SetupError, match="line 1: is not valid JSON"):
        read_labels(tmp_path / "broken.jsonl", DOCUMENTS)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(SetupError, match="is empty"):
        read_labels(tmp_path / "empty.jsonl", DOCUMENTS)


def test_a_header_without_questions_is_refused_before_the_documents_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "read_folder", lambda *_: pytest.fail("the documents were read"))
    labelled = tmp_path / "labelled.csv"
    for header, sentence in (("questio,answer", "'question'"), ("question,anser", "neither 'answer' nor 'references'")):
        labelled.write_text(f"{header}\nWhen?,now\n")
        with pytest.raises(SetupError, match=sentence):
            Documents(tmp_path, labelled).read()
        with pytest.raises(SetupError, match=sentence):
            Documents(tmp_path).read_labelled(labelled)
