"""What differs between two equal runs: time, memory, cost, the run's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.facts import ArmFacts, Circumstances, RunFacts
from synth_dspy.evaluation.records import ArmMeasured, MachineRecord, Measurements, StationRecord
from synth_dspy.evaluation.report import tuning
from synth_dspy.evaluation.report.figures import Rows, mean


def measurements(
    run: RunFacts,
    circumstances: Circumstances,
    arms: Sequence[ArmFacts],
    rows: Rows,
) -> Measurements:
    measured: dict[str, ArmMeasured] = {}
    for arm in arms:
        ours = rows.get(arm.name, [])
        latencies = [seconds for row in ours if (seconds := row.get("latency_s")) is not None]
        measured[arm.name] = {
            "compile_seconds": arm.compile_seconds,
            "training": tuning.measured(arm),
            "latency_p50_s": stats.percentile(latencies, 50),
            "latency_p95_s": stats.percentile(latencies, 95),
            "cpu_s_per_item": mean(ours, "cpu_s"),
            "cost_usd_per_item": mean(ours, "cost_usd"),
            "retries": sum(row.get("retries") or 0 for row in ours),
        }
    machine: MachineRecord | None = None
    if circumstances.machine is not None:
        cpu, cores, precision = astuple(circumstances.machine)
        machine = {"cpu": cpu, "cores": cores, "precision": precision}
    stations: list[StationRecord] | None
    stations = None if run.seconds is None else [{"name": n, "seconds": spent} for n, spent in run.seconds.items()]
    return {
        "run_id": circumstances.run_id,
        "date": circumstances.date,
        "machine": machine,
        "command": run.command,
        "concurrency": circumstances.concurrency,
        "wall_s": run.wall_s,
        "peak_rss_mb": circumstances.peak_rss_mb,
        "stations": stations,
        "spending": list(run.spending),
        "arms": measured,
    }
