"""Throughput of `--executor ray` by workers, and where more of them stop helping: figures for docs/scale.md.

    python tests/benchmarks/cluster.py measure --workers 1 2          # on a cluster of this machine; makes JSON
    python tests/benchmarks/cluster.py simulate                       # on paper, from measured rates

`measure` asks a loopback server with latency, so it is bound by latency, as with a model elsewhere. `simulate` is a
closed queueing network (exact mean value analysis, Reiser and Lavenberg 1980): as many customers as calls may be under
way, one queue for the driver, which takes a fixed time for each call, and a delay for the model's answer.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
COUNTS = (1, 2, 10, 100)


@dataclass
class Measure:
    """Measure calls per second and the driver's CPU time for a call.

    Attributes:
        workers: numbers of workers to compare; 0 is without Ray.
        concurrency: calls under way at each worker.
        latency_s: of the server.
        rows: calls for each worker.
    """

    workers: tuple[int, ...] = (0, 1, 2)
    concurrency: int = 16
    latency_s: float = 0.2
    rows: int = 600


@dataclass
class Simulate:
    """Compute calls per second by workers.

    Attributes:
        driver_ms: time of the driver for a call: the program, the ledger, Ray.
        latency_s: of a call, without waiting for the driver.
        concurrency: calls under way at each worker.
        batched: calls a second that a worker's model makes at most, for an embedded model; 0: no limit.
    """

    driver_ms: float = 2.0
    latency_s: float = 0.2
    concurrency: int = 16
    batched: float = 0.0


def measure(plan: Measure) -> None:
    """Print a JSON line for each number of workers."""
    import subprocess

    from servers import Behaviour, command

    for workers in plan.workers:
        # A server of its own: in this process it would take the driver's time.
        server = subprocess.Popen(command(Behaviour(latency_s=plan.latency_s)), stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
            print(json.dumps(_measured(plan, workers, address)), flush=True)
        finally:
            server.kill()


def _measured(plan: Measure, workers: int, address: str) -> dict[str, float]:
    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.core.ledger import Ledger
    from synth_dspy.models.cluster.cluster import open_cluster
    from synth_dspy.models.cluster.engine import lm_on

    began = time.perf_counter()
    cluster = open_cluster("ray" if workers else "local", workers or None)
    start_s = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        lm = lm_on(cluster, "openai/mock", role="student", ledger=ledger, api_base=address,
            connections=plan.concurrency,
        )  # fmt: skip
        program = dspy.Predict("question -> answer")
        program.set_lm(lm)

        async def ask(number: int) -> str:
            return str((await program.acall(question=f"Question {number}?")).answer)

        executor = Executor(plan.concurrency * max(1, workers) * 2)
        executor.map(ask, range(-executor.concurrency, 0))  # connections, imports
        rows = plan.rows * max(1, workers)
        began, cpu = time.perf_counter(), time.process_time()
        for outcome in executor.map(ask, range(rows)):
            outcome.unwrap()
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "workers": workers,
        "start_s": round(start_s, 1),
        "calls_per_s": round(rows / wall, 1),
        "driver_cpu_ms": round(1000 * cpu / rows, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def throughput(workers: int, plan: Simulate) -> float:
    """Calls a second of `workers` in the steady state, by mean value analysis.

    Stations: the driver (one queue), each worker's model (a queue each, if it is limited), and the latency (a delay).
    """
    driver = plan.driver_ms / 1000
    model = 1 / plan.batched if plan.batched else 0.0
    waiting_driver = waiting_model = rate = 0.0  # customers at the driver, and at each worker's model
    for customers in range(1, workers * plan.concurrency + 1):
        at_driver = driver * (1 + waiting_driver)
        at_model = model * (1 + waiting_model)
        rate = customers / (at_driver + at_model + plan.latency_s)
        waiting_driver, waiting_model = rate * at_driver, rate / workers * at_model
    return rate


def simulate(plan: Simulate) -> None:
    """Print a table."""
    bound = 1000 / plan.driver_ms
    print("| workers | calls/s | of one worker's, times | share of the driver's time |\n| --- | --- | --- | --- |")
    one = throughput(1, plan)
    for workers in COUNTS:
        rate = throughput(workers, plan)
        print(f"| {workers} | {rate:,.0f} | {rate / one:.1f} | {rate / bound:.0%} |")
    print(f"\nThe driver makes {bound:,.0f} calls/s at most: as many as {bound / one:.0f} workers.")


if __name__ == "__main__":
    plan = tyro.extras.subcommand_cli_from_dict({"measure": Measure, "simulate": Simulate})
    measure(plan) if isinstance(plan, Measure) else simulate(plan)
