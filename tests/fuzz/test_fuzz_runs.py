"""Finished runs, their reports, the key of a blind comparison, and the reference judge's file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_runs import make_run, row
from hypothesis import strategies as st
from inputs import ESCAPES, altered, as_json, damaged, json_files
from rich.console import Console

from synth_dspy.core.errors import SetupError
from synth_dspy.core.printable import visible
from synth_dspy.evaluation.blind.sheets import KEY, make_sheets, read_key
from synth_dspy.evaluation.finished_runs import find_arms, read_run, read_runs
from synth_dspy.evaluation.judges import PARAMETERS
from synth_dspy.evaluation.reference_judge.judge import JudgedAnswer, Parameters, ReferenceScorer
from synth_dspy.evaluation.reference_judge.trees import Trees
from synth_dspy.evaluation.report.render import summary_table, write_report
from synth_dspy.models.cross_encoder import CrossEncoder
from synth_dspy.models.embedder import TokenVectors


class Tokens:
    """An embedder of words by their lengths."""

    name = "tokens"
    dimension = 3

    def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        word_spans = [[match.span() for match in re.finditer(r"\w+", text)] for text in texts]
        vectors = [
            np.array([[len(text), 1, end] for _, end in spans], np.float32).reshape(-1, 3)
            for text, spans in zip(texts, word_spans, strict=True)
        ]
        return [
            TokenVectors(
                tuple(text[a:b] for a, b in spans),
                tuple(spans),
                each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-9),
            )
            for text, spans, each in zip(texts, word_spans, vectors, strict=True)
        ]


FILES = ("results.json", "measurements.json", "predictions.jsonl")
HIDDEN = set("\x1b\x07\u202e\u061c\U000e0041\u2028")


class Reader:
    """A cross-encoder that says something of everything."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([len(first) - len(second) for first, second in pairs], np.float32)


JUDGE = PARAMETERS


def write_finished_run(folder: Path, name: str = "") -> Path:
    rows = [
        row(f"{arm}{name}", i, float(i % 3 == 0 or arm == "sft"), category=f"Term{name}")
        for arm in ("rag", "sft")
        for i in range(6)
    ]
    return make_run(folder, rows, task=f"contract_qa{name}", skipped=[{"path": f"a{name}", "why": f"b{name}"}])


@pytest.mark.parametrize("name", FILES)
def test_reports(name: str, fuzz: Any, fresh: Callable[[], Path]) -> None:
    folder = write_finished_run(fresh() / "run")
    valid = (folder / name).read_bytes()

    def read(content: bytes) -> object:
        (folder / name).write_bytes(content)
        return write_report(folder)

    if name.endswith(".json"):
        fuzz(json_files(json.loads(valid)), read)
    else:
        lines = [json.loads(line) for line in valid.splitlines()]
        fuzz(altered(lines).map(lambda rows: b"\n".join(map(as_json, rows)) if isinstance(rows, list) else b"{"), read)
        fuzz(damaged(valid), read)


@pytest.mark.parametrize("name", FILES)
def test_runs_that_are_compared(name: str, fuzz: Any, fresh: Callable[[], Path]) -> None:
    one, other = write_finished_run(fresh() / "one"), write_finished_run(fresh() / "other")
    valid = (one / name).read_bytes()

    def read(content: bytes) -> object:
        (one / name).write_bytes(content)
        runs = read_runs([one, other])
        return make_sheets(find_arms(runs), fresh(), items=3, seed=0)

    value = json.loads(valid) if name.endswith(".json") else None
    fuzz(json_files(value) if value is not None else damaged(valid), read)


def test_keys(fuzz: Any, fresh: Callable[[], Path]) -> None:
    run, folder = write_finished_run(fresh() / "run"), fresh()
    make_sheets(find_arms([read_run(run)]), folder, items=3, seed=0)

    def read(content: bytes) -> object:
        (folder / KEY).write_bytes(content)
        return read_key(folder)

    fuzz(json_files(json.loads((folder / KEY).read_bytes())), read)


def test_what_reports_show_cannot_steer_or_hide(tmp_path: Path) -> None:
    folder = write_finished_run(tmp_path / "run", ESCAPES)
    for path in write_report(folder):
        text = path.read_text(encoding="utf-8")
        assert "contract" in text
        assert not HIDDEN & set(text)
    run = read_run(folder)
    console = Console(width=200, record=True, file=(tmp_path / "terminal").open("w"), force_terminal=False)
    console.print(summary_table(run.results, run.measurements))
    shown = console.export_text(styles=False)
    assert "rag" in shown
    assert not HIDDEN & set(shown)


def test_visible_text_is_what_it_seems() -> None:
    assert visible("a\x1b[2Jb\r\nc\td") == "a\ufffd[2Jb\nc\td"
    assert visible("\u202eabc\u2066\U000e0041\u061c\ud800") == "\ufffdabc" + 4 * "\ufffd"
    assert visible("Grüße, שלום, مرحبا, 👩\u200d🔬, नमस्ते") == "Grüße, שלום, مرحبا, 👩\u200d🔬, नमस्ते"


# -- the judge ----------------------------------------------------------------------------------------------------

TREE = {
    "roots": [0],
    "feature": [0, 0, 0],
    "threshold": [0.5, 0.0, 0.0],
    "left": [1, 1, 2],
    "right": [2, 1, 2],
    "missing_left": [1, 1, 1],
    "value": [0.0, -1.0, 1.0],
    "depth": 1,
}
ADAPTER = b"weights"
JUDGES_FILE = {
    "format": 3,
    "provenance": {},
    "agreement": {"kappa": 0.5},
    "embedder": Tokens().name,
    "adapter": hashlib.sha256(ADAPTER).hexdigest(),
    "same_features": ["recall", "best_cosine"],
    "same": TREE,
    "stated_features": ["recall", "read_stated"],
    "stated": TREE,
    "intact": TREE,
    "idf": {"": 1.0, "the": 0.1},
}
ASKED = [JudgedAnswer("When?", ["1979", "in May 1979"], "It was 1979.")]


def test_judges(fuzz: Any, fresh: Callable[[], Path]) -> None:
    path = fresh() / "judge.json"
    path.with_suffix(".safetensors").write_bytes(ADAPTER)

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return ReferenceScorer(Parameters.load(path), Tokens(), Reader()).score(ASKED)

    assert read(as_json(JUDGES_FILE))
    fuzz(json_files(JUDGES_FILE), read)
    trees = st.sampled_from(["same", "stated", "intact"])
    fuzz(st.tuples(trees, altered(TREE)).map(lambda pair: as_json({**JUDGES_FILE, pair[0]: pair[1]})), read)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"left": [10**9, 1, 2]}, "child"),
        ({"left": [1, 0, 2]}, "child"),  # a circle
        ({"right": [0, 1, 2]}, "child"),
        ({"feature": [7, 0, 0]}, "feature that does not exist"),
        ({"roots": [3]}, "node or a feature"),
        ({"roots": []}, "node or a feature"),
        ({"value": [0.0, float("nan"), 1.0]}, "finite"),
        ({"threshold": [float("inf"), 0.0, 0.0]}, "finite"),
        ({"value": [0.0]}, "differ in length"),
        ({"left": ["1", 1, 2]}, "integer"),
        ({"roots": [-1]}, "greater than or equal"),
        ({"depth": 2**80}, "less than"),
    ],
)
def test_wild_trees_are_refused(change: dict[str, Any], reason: str) -> None:
    assert Trees.from_json(TREE, 1).raw(np.array([[0.2], [0.9]])).tolist() == [-1.0, 1.0]
    with pytest.raises(ValueError, match=reason):
        Trees.from_json({**TREE, **change}, 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "not a JSON object"),
        ('{"format": 3}', "same_features: Field required"),
        ('{"format": [' + "[" * 5_000, "recursion limit"),
        (json.dumps({**JUDGES_FILE, "same": []}), "same: Input should be"),
        (json.dumps({**JUDGES_FILE, "idf": {"a": 1.0}}), "unknown words"),
        (json.dumps({**JUDGES_FILE, "idf": {"": 0}}), "greater than 0"),
        (json.dumps({**JUDGES_FILE, "same_features": ["recall", "luck"]}), "no feature 'luck'"),
        (json.dumps({**JUDGES_FILE, "adapter": 1}), "adapter"),
        (json.dumps(JUDGES_FILE), r"needs judge\.safetensors beside it"),
    ],
)
def test_a_judges_file_is_refused_in_one_sentence(content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    path.write_text(content)
    with pytest.raises(SetupError, match=rf"{reason}.*fit it again: python -m"):
        Parameters.load(path)


def test_a_judge_has_the_adapter_that_it_was_fitted_with(tmp_path: Path) -> None:
    path = tmp_path / "judge.json"
    path.write_bytes(as_json(JUDGES_FILE))
    path.with_suffix(".safetensors").write_bytes(b"other weights")
    with pytest.raises(SetupError, match="is not the cross-encoder"):
        Parameters.load(path)
    path.with_suffix(".safetensors").write_bytes(ADAPTER)
    assert Parameters.load(path).embedder == Tokens().name


def test_an_adapter_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    adapter = tmp_path / "judge.safetensors"
    adapter.write_bytes(ADAPTER)
    with pytest.raises(SetupError, match="does not fit"):
        CrossEncoder("all-minilm-l6-v2", adapter).score([("one", "other")])


def test_the_judge_that_comes_with_the_project_is_read_as_it_is(tmp_path: Path) -> None:
    Parameters.load(JUDGE).save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == JUDGE.read_bytes()
