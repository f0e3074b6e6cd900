"""JSON lines of every kind, and tables of votes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inputs import ESCAPES, ROOT, as_json, damaged, line_files

from synth_dspy.cli import evaluate
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io import jsonl
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.assistant.house import House
from synth_dspy.domains.assistant.real import is_real, read_real
from synth_dspy.domains.documents.labelled import read_labels
from synth_dspy.domains.documents.proposals import ProposedQuestions
from synth_dspy.domains.functions.bfcl import read_bfcl
from synth_dspy.domains.functions.examples import read_examples
from synth_dspy.domains.functions.schema import Function
from synth_dspy.domains.tables.labelled import read_tables
from synth_dspy.evaluation.blind.sheets import read_sheet
from synth_dspy.evaluation.blind.votes import VoteFile, read_votes
from synth_dspy.evaluation.retention.measure import read_prompts
from synth_dspy.training import data
from synth_dspy.training.feedback import read_feedback

QUESTION = {
    "id": "q1",
    "document": "lease",
    "question": "When does it end?",
    "references": ["31 March 2027"],
    "spans": ["ends on 31 March 2027"],
    "category": "Term",
    "answer_type": "date",
}
VOTE = {"study": "study-1", "item": 1, "rater": "ann", "choice": 2, "at": "", "positions": [1, 0]}
SHEET = {"study": "study-1", "item": 1, "question": "q", "references": ["r"], "outputs": ["a", "b"]}
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"x": {"type": "string"}}},
    },
}
TRAINING = {
    "id": 1,
    "source": "s",
    "prompt": MESSAGES[:1],
    "completion": MESSAGES[1:],
    "reply_tokens": 5,
    "label": True,
}
FUNCTION = Function("f", "does", {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]})
CALL = {"id": "1", "category": "single", "question": "q", "functions": ["f"], "expected": [{"f": {"x": [1]}}]}
LEASE = Document("lease", "lease", "The lease ends on 31 March 2027.", "lease.txt")
BANK = ROOT / "data" / "bank"

READERS: dict[str, tuple[list[Any], Callable[[Path], object]]] = {
    "questions": ([QUESTION, {**QUESTION, "id": "q2"}], lambda path: read_labels(path, [LEASE])),
    "proposed questions": (
        [{"status": "accepted", "question": "q", "answer": "r", "document": "lease", "passage": "p", "id": "1"}],
        lambda path: ProposedQuestions.read(path).labels([LEASE], ""),
    ),
    "feedback": (
        [{"question": "q", "document": "lease", "chosen": "a", "rejected": "b"}],
        lambda path: read_feedback(path, ["question", "document"], ["other"]),
    ),
    "items to judge": (
        [{"id": 1, "question": "q", "references": ["r"], "prediction": "p", "label": 1, "group": "g"}],
        evaluate.read_items,
    ),
    "training rows, sft": ([TRAINING], lambda path: data.read_rows(path, "sft")),
    "training rows, kto": ([TRAINING], lambda path: data.read_rows(path, "kto")),
    "prompts": ([TRAINING], data.read_prompts),
    "votes": ([VOTE, {**VOTE, "item": 2, "choice": "tie"}], read_votes),
    "a rater's votes": ([VOTE], lambda path: VoteFile(path, "study-1", f"ann{ESCAPES}").done),
    "sheets": ([SHEET, {**SHEET, "item": 2}], read_sheet),
    "instructions": (
        [
            {
                "key": 1,
                "prompt": "Write.",
                "instruction_id_list": ["length_constraints:number_sentences"],
                "kwargs": [{"relation": "less than", "num_sentences": 5}],
            }
        ],
        read_prompts,
    ),
    "calls": ([CALL], lambda path: read_examples(path, {"f": FUNCTION})),
    "tables": (
        [{"ddl": "CREATE TABLE t (a INT)", "dialect": "mysql", "table_comment": "c", "column_comments": {"a": "b"}}],
        read_tables,
    ),
    "real questions": (
        [{"text": "where is my card", "category": "cards"}],
        lambda path: (is_real(path), read_real(path)),
    ),
    "examples of a house": (
        [{"id": 1, "topic": "lost-cards", "question": "q", "in_scope": True, "references": ["r"], "kind": "plain"}],
        lambda path: House(BANK).examples(path),
    ),
    "any rows": ([{"id": 1, "n": 3, "on": True}], lambda path: jsonl.read_rows(path, {"id": jsonl.ID}, unique="id")),
}


@pytest.mark.parametrize("name", READERS)
def test_lines(name: str, fuzz: Any, fresh: Callable[[], Path]) -> None:
    rows, read = READERS[name]
    path = fresh() / "rows.jsonl"
    path.write_bytes(b"\n".join(map(as_json, rows)))
    read(path)  # what is damaged below is right
    fuzz(line_files(rows), lambda content: read(_written(path, content)))


def test_benchmark_items(fuzz: Any, fresh: Callable[[], Path]) -> None:
    row = {
        "id": "simple_0",
        "question": [[{"role": "user", "content": "q"}]],
        "function": [TOOL["function"]],
        "ground_truth": [{"f": {"x": ["1"]}}],
    }

    def read(content: bytes) -> object:
        path = _written(fresh() / "BFCL_v4_simple_python.json", content)
        return read_bfcl(path.parent)

    assert read(as_json(row))
    fuzz(line_files([row]), read)


def test_topics_of_a_house(fuzz: Any, fresh: Callable[[], Path]) -> None:
    part = {"subtopic": "freeze", "name": "Freezing", "answer": "Open Cards."}
    row = {"topic": "cards", "name": "Cards", "in_scope": True, "about": "a", "subtopics": [part]}
    fuzz(line_files([row]), lambda content: House(_written(fresh() / "topics.jsonl", content).parent).topics)


@pytest.mark.parametrize(
    "valid", ["study,item,question,choice,rater\ns,1,q,2,ann\ns,2,q,tie,\n", "study;item;choice\ns;1;1\n"]
)
def test_votes_from_a_spreadsheet(valid: str, fuzz: Any, fresh: Callable[[], Path]) -> None:
    path = fresh() / "votes.csv"
    fuzz(damaged(valid.encode()), lambda content: read_votes(_written(path, content)))


def test_real_questions_as_their_publishers_have_them(fuzz: Any, fresh: Callable[[], Path]) -> None:
    table, splits = (
        b'text,category\n"where is, my card",cards\nhello,greet\n',
        b'{"train": [["hi", "greeting"]], "oos_test": []}',
    )
    folder = fresh()
    fuzz(damaged(table), lambda content: read_real(_written(folder / "train.csv", content)))
    fuzz(damaged(splits), lambda content: read_real(_written(folder / "data_full.json", content)))


def test_a_row_is_refused_in_one_sentence_that_says_why(tmp_path: Path) -> None:
    cases = {
        "[" * 100_000: "recursion limit",
        '{"id": ' + "9" * 5000 + "}": "number out of range",
        '{"id": "\\ud800"}': "hex escape",
        '{"id": NaN}': "make it a string or a number",
    }
    for content, reason in cases.items():
        with pytest.raises(SetupError, match=reason):
            jsonl.read_rows(_written(tmp_path / "rows.jsonl", content.encode()), {"id": jsonl.ID})


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
