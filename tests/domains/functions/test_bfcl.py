"""BFCL's files are read in both layouts, and what is wrong with them is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.bfcl import read_bfcl

AREA = {
    "name": "geometry.area",
    "description": "Area of a rectangle.",
    "parameters": {
        "type": "dict",
        "properties": {
            "sides": {"type": "tuple", "items": {"type": "float"}, "description": "Both sides."},
            "unit": {"type": "string", "description": "Unit.", "default": "m"},
            "note": {"type": "any", "description": "Anything."},
        },
        "required": ["sides"],
    },
}
QUESTION = [[{"role": "user", "content": "How large is 3 by 4?"}]]
TRUTH = [{"geometry.area": {"sides": [[3.0, 4.0]], "unit": ["", "m"]}}]
MOVE = {
    "name": "mv",
    "description": "Move.",
    "parameters": {
        "type": "dict",
        "properties": {
            "source": {"type": "string"},
            "destination": {"type": "string"},
            "force": {"type": "boolean", "default": False},
            "label": {"type": "string", "default": "None"},
        },
        "required": ["source", "destination"],
    },
}


def write(path: Path, *rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_the_publishers_layout(tmp_path: Path) -> None:
    write(tmp_path / "BFCL_v4_parallel.json", {"id": "parallel_0", "question": QUESTION, "function": [AREA]})
    write(tmp_path / "possible_answer" / "BFCL_v4_parallel.json", {"id": "parallel_0", "ground_truth": TRUTH})
    write(
        tmp_path / "BFCL_v4_live_irrelevance.json", {"id": "live_irrelevance_0", "question": QUESTION, "function": []}
    )
    parallel, irrelevance = read_bfcl(tmp_path)
    assert (parallel.id, parallel.category, parallel.ground_truth) == ("parallel_0", "parallel", ((TRUTH[0],),))
    assert parallel.question[0][0]["content"] == "How large is 3 by 4?"
    (function,) = parallel.functions
    assert function.name == "geometry.area"
    assert function.required == ("sides",)
    assert function.properties["sides"]["type"] == "array"
    assert function.properties["sides"]["items"]["type"] == "number"
    assert "type" not in function.properties["note"]
    assert irrelevance.ground_truth == ((),)
    assert [item.id for item in read_bfcl(tmp_path, ["live_irrelevance"])] == ["live_irrelevance_0"]


def test_answers_in_each_row_and_calls_that_only_have_to_be_there(tmp_path: Path) -> None:
    row = {"question": QUESTION, "function": [AREA]}
    write(tmp_path / "multiple.jsonl", {"id": "multiple_0", **row, "ground_truth": TRUTH})
    write(tmp_path / "live_relevance.jsonl", {"id": "live_relevance_0", **row})
    assert [item.ground_truth for item in read_bfcl(tmp_path)] == [((TRUTH[0],),), (None,)]


def test_conversations(tmp_path: Path) -> None:
    write(tmp_path / "multi_turn_func_doc" / "gorilla_file_system.json", MOVE, {**MOVE, "name": "cp"})
    write(
        tmp_path / "multi_turn_base.jsonl",
        {
            "id": "multi_turn_base_0",
            "question": [*QUESTION, *QUESTION],
            "involved_classes": ["GorillaFileSystem"],
            "excluded_function": ["cp"],
            "ground_truth": [["mv('a', destination='b')"], []],
        },
    )
    (item,) = read_bfcl(tmp_path)
    assert [function.name for function in item.functions] == ["mv"]
    accepted = {"source": ["a"], "destination": ["b"], "force": ["", False], "label": [""]}
    assert item.ground_truth == (({"mv": accepted},), ())


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="holds no <category>"):
        read_bfcl(tmp_path)
    with pytest.raises(SetupError, match="'simple_java' is not a category"):
        read_bfcl(tmp_path, ["simple_java"])
    path = tmp_path / "multiple.jsonl"
    write(path, {"id": "multiple_0", "question": QUESTION, "function": [AREA]})
    with pytest.raises(SetupError, match="multiple_0 has no ground_truth"):
        read_bfcl(tmp_path)
    with pytest.raises(SetupError, match=r"holds no parallel\.jsonl"):
        read_bfcl(tmp_path, ["parallel"])
    write(path, {"id": "multiple_0", "question": QUESTION, "function": [AREA], "ground_truth": ["area(3, 4)"]})
    with pytest.raises(SetupError, match=r"the accepted call .* cannot be read"):
        read_bfcl(tmp_path)
    write(path, {"id": "multiple_0", "question": QUESTION, "function": [{}], "ground_truth": TRUTH})
    with pytest.raises(SetupError, match="a function is not described as in BFCL"):
        read_bfcl(tmp_path)
