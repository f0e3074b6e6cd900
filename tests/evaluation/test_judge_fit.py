"""Fitting the reference judge again: from verdicts to a file that scores."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from synth_dspy.cli import evaluate
from synth_dspy.evaluation.judges import ReferenceJudge

CITIES = ("Lisbon", "Oslo", "Warsaw", "Nairobi", "Kyoto", "Quebec", "Denver", "Bergen", "Turin", "Gdansk")


@pytest.mark.slow
def test_the_judge_is_fitted_from_verdicts_and_graded_answers(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    rng = random.Random(0)
    verdicts, graded = [], []
    for i in range(60):
        city, other = rng.sample(CITIES, 2)
        question = f"In which city does office {i} lie?"
        for answer, label in ((f"It lies in {city}.", 1), (f"In {other}, I think.", 0)):
            row = {"question": question, "references": [city], "group": f"q{i}"}
            verdicts.append({**row, "id": f"{i}-{label}", "prediction": answer, "label": label})
            graded.append({**row, "answer": answer, "right": label, "arms": ["rag"]})
    for name, rows in (("verdicts", verdicts), ("graded", graded)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = tmp_path / "judge.json"
    files = ["--fit", str(tmp_path / "verdicts.jsonl"), "--graded", str(tmp_path / "graded.jsonl")]
    evaluate.main([*files, "--parameters", str(target)])
    measured = json.loads(target.read_text())["agreement"]["domains"]
    assert [row["domain"] for row in measured] == [tmp_path.name, "contracts"]
    assert 0 < measured[1]["n_right"] < 60
    scores = ReferenceJudge(parameters=target).score_many(verdicts[:2])
    assert scores[0] > scores[1]
