"""What a run ends with: predictions, results, measurements and the report, in its folder."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from typing import Any

from synth_dspy.config import CompileConfig
from synth_dspy.evaluation.finished import STAGED, parse_run
from synth_dspy.evaluation.report import render
from synth_dspy.evaluation.summary import summarise
from synth_dspy.run import Run, json_text, jsonl_text
from synth_dspy.task import Judge, Task
from synth_dspy.versions import versions


def write_results(
    run: Run,
    task: Task,
    config: CompileConfig,
    judge: Judge,
    predictions: Sequence[dict[str, Any]],
    facts: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Aggregate the predictions and write everything down: the new files together, or what was there stays.

    Args:
        run: where to.
        task: what was compiled or scored.
        config: the settings it had.
        judge: scored the predictions.
        predictions: rows of `evaluation.runner`.
        facts: what else `summarise` is to know.

    Returns:
        `results` and `measurements`.
    """
    models = config.models
    every = {
        "task": run.task,
        "noun": task.noun,
        "run_id": run.id,
        "seed": config.seed,
        "models": {role: getattr(models, role) for role in ("student", "teacher", "judge", "embedder")},
        "versions": versions(),
        "judge": {"name": judge.name, **judge.agreement},
        "concurrency": config.concurrency,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **facts,
    }
    results, measurements = summarise(predictions, every)
    texts = {
        "predictions.jsonl": jsonl_text(predictions),
        "results.json": json_text(results),
        "measurements.json": json_text(measurements),
    }
    run.write_texts(texts | render(parse_run(run.folder, texts)), STAGED)
    return results, measurements
