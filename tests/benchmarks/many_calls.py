"""1,000 rows through a DSPy program with the ledger on, against a loopback server that answers in 50 ms.

    python tests/benchmarks/many_calls.py [--rows 1000] [--concurrency 64] [--kills 5]

Prints rows a second of a bare aiohttp client, of ours in an event loop and in threads, and of ours with 10 % of the
requests answered 429; then kills a run with SIGKILL, resumes it, and counts the answered calls that were made again.
Every part runs in processes of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from servers import CHAT_REPLY, Behaviour, command

LATENCY_S = 0.05


@contextmanager
def server(**behaviour: object) -> Iterator[str]:
    process = subprocess.Popen(
        command(Behaviour(latency_s=LATENCY_S, **behaviour)),  # type: ignore[arg-type]
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def worker(arguments: list[str]) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "--worker", *arguments]


def measured(kind: str, api_base: str, rows: int, concurrency: int, ledger: Path) -> dict[str, float]:
    run = subprocess.run(
        worker([kind, api_base, str(rows), str(concurrency), str(ledger)]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return result


def bare(api_base: str, rows: int, concurrency: int) -> dict[str, float]:
    """What the machine and the server allow: aiohttp and nothing else."""
    import aiohttp

    async def run() -> float:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            numbers = iter(range(rows))

            async def one() -> None:
                for number in numbers:
                    body = {"model": "mock", "messages": [{"role": "user", "content": f"question {number}"}]}
                    async with session.post(f"{api_base}/chat/completions", json=body) as response:
                        await response.json()

            began = time.perf_counter()
            await asyncio.gather(*(one() for _ in range(concurrency)))
            return time.perf_counter() - began

    cpu = time.process_time()
    seconds = asyncio.run(run())
    return {"rows_per_s": rows / seconds, "cpu_s": time.process_time() - cpu}


def ours(kind: str, api_base: str, rows: int, concurrency: int, ledger_path: Path) -> dict[str, float]:
    """A DSPy program of one predictor, as synthesis runs it."""
    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.core.ledger import Ledger
    from synth_dspy.models import roles

    with Ledger(ledger_path) as ledger:
        lm = roles.lm_for(
            "openai/mock", role="teacher", ledger=ledger, api_base=api_base, temperature=0.0, max_tokens=100,
            connections=concurrency,
        )  # fmt: skip
        write = dspy.Predict("passage, instruction -> answer")
        write.lm = lm

        async def in_loop(number: int) -> str:
            with ledger.unit(station="synthesis", source=str(number)):
                return (await write.acall(passage=f"Passage {number}.", instruction="Write the answer.")).answer

        def in_thread(number: int) -> str:
            with ledger.unit(station="synthesis", source=str(number)):
                return write(passage=f"Passage {number}.", instruction="Write the answer.").answer

        fn = in_thread if kind == "threads" else in_loop
        Executor(4).map(fn, range(-4, 0))  # imports, connections
        cpu, began = time.process_time(), time.perf_counter()
        # More rows than requests: one that waits out a refusal, or is being parsed, leaves no connection idle.
        outcomes = Executor(2 * concurrency).map(fn, range(rows))
        seconds = time.perf_counter() - began
        failed = [outcome.error for outcome in outcomes if outcome.error]
        if failed:
            print(f"{len(failed)} rows failed, the first with {failed[0]!r}", file=sys.stderr)
        return {"rows_per_s": rows / seconds, "cpu_s": time.process_time() - cpu, "failed": len(failed)}


def killed(rows: int, concurrency: int, kind: str, after: float) -> dict[str, int]:
    """Kill a run with SIGKILL once a share `after` of its rows is answered, resume it, and count repeated answers."""
    with tempfile.TemporaryDirectory() as folder:
        log, ledger = Path(folder) / "answered.log", Path(folder) / "ledger.sqlite"
        log.touch()
        with server(log=str(log)) as api_base:
            arguments = [kind, api_base, str(rows), str(concurrency), str(ledger)]
            process = subprocess.Popen(worker(arguments), stdout=subprocess.DEVNULL)
            while log.read_bytes().count(b"\n") < after * rows and process.poll() is None:
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            answered = len(log.read_text().split())
            subprocess.run(worker(arguments), stdout=subprocess.DEVNULL, check=True)
            made = Counter(log.read_text().split())
    return {"answered_at_kill": answered, "repeated": sum(made.values()) - len(made), "answered": len(made)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--worker", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, api_base, rows, concurrency, ledger = arguments.worker
        if kind == "bare":
            print(json.dumps(bare(api_base, int(rows), int(concurrency))))
        else:
            print(json.dumps(ours(kind, api_base, int(rows), int(concurrency), Path(ledger))))
        return
    rows, concurrency = arguments.rows, arguments.concurrency
    bare_rate = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for label, kind, refused in (
            ("bare client", "bare", 0.0),
            ("ours, event loop", "loop", 0.0),
            ("ours, threads", "threads", 0.0),
            ("ours, event loop, 10 % refused", "loop", 0.1),
        ):
            with server(reply=CHAT_REPLY, refused=refused) as api_base:
                figures = measured(kind, api_base, rows, concurrency, Path(folder) / f"{kind}-{refused}.sqlite")
            rate = figures["rows_per_s"]
            bare_rate = bare_rate or rate
            print(f"{label:<32} {rate:7.0f} rows/s   {rate / bare_rate:4.2f} of bare   {figures['cpu_s']:5.2f} s CPU",
                  flush=True)  # fmt: skip
    random.seed(0)
    for number in range(arguments.kills):
        after = random.uniform(0.2, 0.8)
        figures_ = killed(rows, concurrency, ("loop", "threads")[number % 2], after)
        print(f"killed: {json.dumps(figures_)}", flush=True)


if __name__ == "__main__":
    main()
