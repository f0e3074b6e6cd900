"""Answers about contracts that people graded by hand: one half of the documents teaches, the other half measures.

The rows are those of `data/calibration/answers.jsonl`, whose README says what they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synth_dspy.evaluation.reference_judge.examples import CONTRACTS, fold

GRADED = "answers of a 135M model's arms about contracts"


def is_held_out(document: str) -> bool:
    """Whether what was graded of a document measures the judge: then neither it nor its labels may be fitted on."""
    return fold(f"split:{document}", 2) == 1


def verdicts(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Graded answers in the layout of verdicts."""
    return [
        {
            "question": row["question"],
            "references": row["references"],
            "prediction": row["answer"],
            "label": row["right"],
            "group": row["group"],
            "domain": CONTRACTS,
        }
        for row in rows
    ]


def shares(rows: Sequence[Mapping[str, Any]], accepted: Sequence[bool]) -> dict[str, tuple[int, int, int, int]]:
    """For each arm: its answers, those that people call right, those that the judge does, and those they differ on."""
    arms: dict[str, tuple[int, int, int, int]] = {}
    for row, said in zip(rows, accepted, strict=True):
        for arm in row["arms"]:
            n, right, judged, differ = arms.get(arm, (0, 0, 0, 0))
            arms[arm] = (n + 1, right + row["right"], judged + said, differ + (bool(row["right"]) != said))
    return arms
