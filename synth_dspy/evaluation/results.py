"""Writes the outcome of a run to its folder: predictions, results, measurements and the report."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.protocols import Judge
from synth_dspy.core.run import Run, json_text, jsonl_text
from synth_dspy.core.task import CompleteTask
from synth_dspy.core.versions import versions
from synth_dspy.evaluation.facts import Circumstances, Machine, RunFacts, TaskFacts
from synth_dspy.evaluation.finished_runs import STAGED, parse_run
from synth_dspy.evaluation.groundedness.passage_scores import judge_records
from synth_dspy.evaluation.records import Measurements, Prediction, Results
from synth_dspy.evaluation.report.figures import RIGHT
from synth_dspy.evaluation.report.judge import agreement_record
from synth_dspy.evaluation.report.render import render
from synth_dspy.evaluation.report.summary import summarise
from synth_dspy.evaluation.scores import scores_of
from synth_dspy.models.embedded.precision import precision


def write_results(
    run: Run,
    task: CompleteTask,
    config: CompileConfig,
    judge: Judge,
    predictions: Sequence[Prediction],
    facts: RunFacts,
) -> tuple[Results, Measurements]:
    """Aggregate the predictions and write all files together; on an error the previous files stay.

    Args:
        run: the run.
        task: the task that was compiled or scored.
        config: its settings.
        judge: the judge that scored the predictions.
        predictions: rows from `evaluation.runner`.
        facts: facts from the run's stages.

    Returns:
        `results` and `measurements`.
    """
    models, measured = config.models, getattr(judge, "score_name", "")
    declared = TaskFacts(
        name=run.task,
        noun=task.noun,
        objective=task.objective,
        labels=task.labels,
        scores=scores_of(task.metrics),
        classes=task.classes,
        measured=measured,
        judge={
            **agreement_record(getattr(judge, "agreement", None)),
            "name": judge.name,
            "domain": task.domain,
            **({} if measured else {"threshold": getattr(judge, "threshold", RIGHT)}),
        },
        passage_judges=judge_records(task.metrics),
    )
    circumstances = Circumstances(
        run_id=run.id,
        seed=config.seed,
        models={
            **{role: getattr(models, role) for role in ("student", "teacher", "judge", "embedder")},
            **({"compared": ", ".join(models.compare)} if models.compare else {}),
            **({"made elsewhere": ", ".join(config.arm)} if config.arm else {}),
        },
        versions=versions(),
        concurrency=config.concurrency,
        date=datetime.now().astimezone().isoformat(timespec="minutes"),
        machine=Machine(_cpu(), cores(), precision()),
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    results, measurements = summarise(predictions, declared, facts, circumstances)
    texts = {
        "predictions.jsonl": jsonl_text(predictions),
        "results.json": json_text(results),
        "measurements.json": json_text(measurements),
    }
    run.write_texts(texts | render(parse_run(run.folder, texts)), STAGED)
    return results, measurements


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
