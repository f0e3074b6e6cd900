"""Labelled questions: what is read, and the sentence for each way in which a line can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.documents.labelled import read_questions


def rows(count: int = 8) -> list[dict[str, object]]:
    return [
        {"id": f"q{i}", "document": "lease", "question": "When does it end?", "references": ["2027"],
         "spans": ["ends in 2027"], "category": "Expiration Date", "answer_type": "date"}
        for i in range(1, count + 1)
    ]  # fmt: skip


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_reads_rows_and_passes_over_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", rows(2))
    path.write_text(path.read_text().replace("\n", "\n\n"))
    assert [row["id"] for row in read_questions(path, {"lease"})] == ["q1", "q2"]


def test_a_line_separator_inside_a_string_ends_no_line(tmp_path: Path) -> None:
    lines = rows(2)
    lines[0]["question"] = "When does\u2028it end?\x85"
    (tmp_path / "q.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\r\n" for line in lines), encoding="utf-8"
    )
    assert read_questions(tmp_path / "q.jsonl") == lines


@pytest.mark.parametrize("field", ["id", "document", "question", "references", "spans", "category", "answer_type"])
def test_missing_field_names_file_line_and_field(tmp_path: Path, field: str) -> None:
    lines = rows()
    del lines[6][field]
    with pytest.raises(SetupError, match=rf"seeds\.jsonl, line 7: field '{field}' is missing"):
        read_questions(write(tmp_path / "seeds.jsonl", lines))


@pytest.mark.parametrize(
    ("references", "answer_type"),
    [([], "none"), (["Yes"], "yes_no"), (["no.", "No"], "yes_no"), (["2027"], "answer"), (["Yes", "In May"], "answer")],
)
def test_questions_that_programs_are_scored_on_need_no_more_than_an_answer(
    tmp_path: Path, references: list[str], answer_type: str
) -> None:
    asked = {"id": "q1", "document": "lease", "question": "When?", "references": references}
    (row,) = read_questions(write(tmp_path / "q.jsonl", [{**asked, "spans": None}]), {"lease"}, scored=True)
    assert row == {**asked, "spans": [], "category": "", "answer_type": answer_type}
    told = {**asked, "spans": ["in 2027"], "category": "End", "answer_type": "date"}
    assert read_questions(write(tmp_path / "q.jsonl", [told]), {"lease"}, scored=True) == [told]


@pytest.mark.parametrize("field", ["id", "document", "question", "references"])
def test_questions_that_programs_are_scored_on_need_an_answer(tmp_path: Path, field: str) -> None:
    lines = [{key: value for key, value in rows(1)[0].items() if key != field}]
    with pytest.raises(SetupError, match=rf"line 1: field '{field}' is missing; add it \(fields: id, document, "):
        read_questions(write(tmp_path / "q.jsonl", lines), {"lease"}, scored=True)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("question", " ", "make it a string that is not empty"),
        ("references", "2027", "make it a list of strings"),
        ("spans", [3], "must hold only strings"),
        ("id", "q1", "id 'q1' is also used in line 1"),
        ("document", "leese", "no such document was read"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    lines = rows(3)
    lines[1][field] = value
    with pytest.raises(SetupError, match=rf"line 2: .*{message}"):
        read_questions(write(tmp_path / "q.jsonl", lines), {"lease"})


def test_other_failures_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "broken.jsonl").write_text('{"id": \n')
    with pytest.raises(SetupError, match="line 1: is not valid JSON"):
        read_questions(tmp_path / "broken.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(SetupError, match="is empty"):
        read_questions(tmp_path / "empty.jsonl")
