"""The benchmark of learning from feedback: the thumbs that it gives, and the table that it prints."""

from __future__ import annotations

import sys
from pathlib import Path

import dspy
import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from preferences import report, thumbs


class Equality:
    name = "equality"

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        return float(prediction.answer in example.references)


def test_one_thumb_in_ten_is_wrong_and_the_same_answer_always_gets_the_same() -> None:
    asked = [dspy.Example(id=str(n), references=["yes"]) for n in range(2000)]
    rate = thumbs(asked, Equality(), noise=0.1, seed=0)
    seen = [dspy.Example(id=example.id, unanswered=True) for example in asked]
    right = [rate(example, dspy.Prediction(answer="yes")) for example in seen]
    wrong = [rate(example, dspy.Prediction(answer="no")) for example in seen]
    assert sum(right) / len(right) == pytest.approx(0.9, abs=0.03)
    assert sum(wrong) / len(wrong) == pytest.approx(0.1, abs=0.03)
    assert right == [rate(example, dspy.Prediction(answer="yes")) for example in seen]
    assert right != [thumbs(asked, Equality(), noise=0.1, seed=1)(e, dspy.Prediction(answer="yes")) for e in seen]


def test_differences_are_paired_with_the_control_of_the_same_seed_and_size() -> None:
    def line(method: str, seed: int, scores: list[float], size: int = 32) -> dict[str, object]:
        groups = [str(number // 2) for number in range(len(scores))]
        kept = {"seed": seed, "size": size, "method": method, "rows": 9, "groups": groups}
        return {**kept, "f1": scores, "judged": scores}

    base = [0.1, 0.9, 0.4, 0.6] * 8
    better = [score + 0.1 for score in base]
    results = [line("gold", 0, base, size=0), line("gold", 1, base, size=0)]
    results += [line("sft", 0, base), line("sft", 1, base[::-1])]
    results += [line("dpo", 0, better), line("dpo", 1, [score + 0.1 for score in base[::-1]])]
    table = report(results).splitlines()
    assert [row.split()[:3] for row in table[1:]] == [["0", "gold", "2"], ["32", "sft", "2"], ["32", "dpo", "2"]]
    assert "+0.100" in table[3]
    assert "+0.1" not in table[2]
