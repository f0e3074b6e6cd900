"""Made-up finished runs: a folder with the three files that comparing answers after the fact begins with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.evaluation.report.summary import summarise

SMALL = "embedded/smollm2-135m-instruct"
MODELS = {"student": SMALL, "teacher": SMALL, "judge": "reference", "embedder": "embedded/all-minilm-l6-v2"}


def row(arm: str, index: int, judged: float = 1.0, **more: Any) -> dict[str, Any]:
    """A prediction, as `evaluation.runner` writes it; every item is a group of its own."""
    return {
        "arm": arm,
        "id": f"item-{index:03d}",
        "group": f"doc-{index:03d}",
        "category": "Term",
        "answer_type": "text",
        "question": f"Question {index}?",
        "references": [f"right {index}"],
        "prediction": f"{arm} says {index}",
        "abstained": False,
        "passages": [],
        "latency_s": 1.0,
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "cpu_s": 0.5,
        "cost_usd": None,
        "error": None,
        "scores": {"judged": judged, "f1": judged, "exact": judged},
        **more,
    }


def make_run(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    task: str = "contract_qa",
    models: Mapping[str, str] | None = None,
    arms: Sequence[Mapping[str, Any]] = (),
    **facts: Any,
) -> Path:
    """Write the run; arms are declared in the order of their rows unless given."""
    names = list(dict.fromkeys(r["arm"] for r in rows))
    results, measurements = summarise(
        rows,
        {
            "task": task,
            "run_id": folder.name,
            "baseline": names[0],
            "models": {**MODELS, **(models or {})},
            "held_out": "human-labelled",
            "arms": arms or [{"name": name} for name in names],
            "concurrency": 4,
            "peak_rss_mb": 900.0,
            **facts,
        },
    )
    folder.mkdir(parents=True)
    (folder / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "measurements.json").write_text(json.dumps(measurements))
    return folder
