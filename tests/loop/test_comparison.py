"""What a challenger and the champion are compared on: items that neither has learned from, in any characters."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import dspy

from synth_dspy.core.run import jsonl_text
from synth_dspy.domains.rows.source import Rows
from synth_dspy.evaluation.answers import answer_type
from synth_dspy.loop.comparison import labelled_items, read_pairs, unseen, write_pairs
from synth_dspy.loop.gate import Pair
from synth_dspy.loop.rows import write_rows
from synth_dspy.pipeline.datasets import as_row


class Kind(dspy.Signature):
    """Say of which kind a text is."""

    text: str = dspy.InputField()
    kind: Literal["a", "b"] = dspy.OutputField()


def rows_of(path: Path, texts: dict[str, str]) -> Rows:
    """A source of rows, each with its id."""
    lines = [{"id": name, "text": text, "kind": "ab"[len(text) % 2]} for name, text in texts.items()]
    path.write_text(jsonl_text(lines), encoding="utf-8")
    return Rows(path).about(answer_type(dspy.Predict(Kind), "kind"), "")


def test_a_text_that_was_learned_from_is_not_scored_on_under_another_id(tmp_path: Path) -> None:
    source = rows_of(tmp_path / "train.jsonl", {f"row {n}": f"the text {n}" for n in range(10)})
    datasets = tmp_path / "run" / "datasets"
    datasets.mkdir(parents=True)
    for name in ("train", "dev"):
        rows: list[Any] = [as_row(example) for example in source.read().labelled]
        (datasets / f"{name}.jsonl").write_text(jsonl_text(rows), encoding="utf-8")
    (datasets / "feedback.jsonl").write_text(json.dumps({"id": "human-1", "text": "A  liked text", "good": True}))
    asked = rows_of(
        tmp_path / "asked.jsonl", {"asked-1": "The text  3", "asked-2": "a liked text", "asked-3": "a new text"}
    )
    program: Any = SimpleNamespace(run=tmp_path / "run")
    assert [item.id for item in unseen(asked.read().labelled, [program], groups=False)] == ["asked-3"]


def test_line_separators_in_texts_and_names_are_read_again(tmp_path: Path) -> None:
    pair = Pair(1.0, 0.0, "Lease\u2028Berlin\u0085", item="a")
    write_pairs(tmp_path / "pairs.jsonl", [pair])
    assert read_pairs(tmp_path / "pairs.jsonl") == [pair]
    source = rows_of(tmp_path / "train.jsonl", {"row": "a text"})
    write_rows(
        tmp_path, "labelled.jsonl", [{"text": "one\u2028two", "kind": "a"}, {"text": "x", "kind": "no such kind"}]
    )
    task: Any = SimpleNamespace(source=source)
    items, why = labelled_items(task, None, tmp_path / "labelled.jsonl")
    assert [item.text for item in items] == ["one\u2028two"]
    assert why is not None
    assert why.startswith("1 of 2; the first:")
