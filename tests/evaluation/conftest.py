"""Made-up predictions and facts of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

Row = dict[str, Any]


def prediction(arm: str, index: int, judged: float, *, group: str | None = None, **more: Any) -> Row:
    return {
        "arm": arm,
        "id": f"item-{index:03d}",
        "group": group or f"doc-{index // 4:02d}",
        "category": ("Parties", "Governing Law", "Term")[index % 3],
        "answer_type": "text",
        "question": f"Question {index}?",
        "references": [f"answer {index}"],
        "prediction": f"answer {index}" if judged >= 0.5 else "something else",
        "abstained": False,
        "passages": [{"id": f"chunk-{index}", "text": f"The passage of item {index}."}],
        "scores": {"judged": judged, "f1": judged, "exact": judged, "recall": 1.0, "mrr": 0.5, "abstention": None},
        "latency_s": 0.1 * (index + 1),
        "prompt_tokens": 500,
        "completion_tokens": 10,
        "cpu_s": 0.25,
        "cost_usd": 0.0,
        "error": None,
        **more,
    }


@pytest.fixture
def predict() -> Callable[..., Row]:
    """One row: `predict(arm, index, judged, **fields)`."""
    return prediction


@pytest.fixture
def answers() -> Callable[[Mapping[str, Sequence[float]]], list[Row]]:
    """Rows from judged scores: `answers({"rag": [0, 1, ...], "lora": [...]})`, four items to a document."""

    def make(scores: Mapping[str, Sequence[float]]) -> list[Row]:
        return [prediction(arm, i, float(s)) for arm, values in scores.items() for i, s in enumerate(values)]

    return make


@pytest.fixture
def facts() -> dict[str, Any]:
    return {
        "task": "contract_qa",
        "run_id": "run-1",
        "baseline": "rag",
        "seed": 3,
        "models": {"student": "embedded/small", "teacher": "embedded/small", "judge": "reference"},
        "versions": {"synth_dspy": "0.1.0", "dspy": "3.4.1"},
        "splits": {"train": {"groups": 9, "items": 90}, "test": {"groups": 10, "items": 40}},
        "synthesis": {
            "items": 50,
            "generated": 200,
            "kept": 60,
            "filters": [{"name": "round trip", "in": 200, "kept": 60, "reasons": {"answers disagree": 140}}],
        },
        "contamination": {"checked": 150, "exact": 1, "ngram": 2, "embedding": 3, "removed": 6},
        "judge": {
            "name": "reference",
            "n": 900,
            "kappa": 0.87,
            "kappa_interval": [0.83, 0.9],
            "auroc": 0.98,
            "accuracy": 0.94,
            "source": "EVOUNA",
        },
        "skipped": [{"path": "scan.pdf", "why": "encrypted"}],
        "stations": [{"name": "corpus", "seconds": 3.0}],
        "arms": [{"name": "rag", "optimizer": "none", "compile_seconds": 0.0, "demos": 0, "failed": None}],
        "concurrency": 16,
        "wall_s": 100.0,
        "peak_rss_mb": 900.0,
        "command": "python -m synth_dspy.compile contract_qa",
    }
