"""The service under load, with the embedded model: `python tests/benchmarks/service.py [--minutes 10] [--at-once 64]`.

Asks the sample contracts' questions, `--at-once` at a time, and gives feedback on the answers, while the champion is
changed in the middle by another process; at the end the service is killed with SIGKILL, and all that was answered must
be in the store. Before it, the service and the bare program (a process of its own with the same model) answer the same
questions in turns, one at a time and `--at-once` at a time: their ratio needs no quiet machine. `--rounds 0` leaves it
out, and `--minutes 0` the load. Prints a JSON object for each part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import aiohttp  # noqa: E402
from service_workspace import contracts_run  # noqa: E402

from synth_dspy.models.offline import quiet_libraries  # noqa: E402

quiet_libraries()
TASK = "contract_qa"
SWITCH_S = 0.001
Question = dict[str, str]


def questions() -> list[Question]:
    lines = (ROOT / "data" / "contracts" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{key: row[key] for key in ("question", "document")} for row in map(json.loads, lines)]
    random.Random(0).shuffle(rows)
    return rows


def verb(name: str, *args: str, runs: Path) -> list[str]:
    return [sys.executable, "-m", "synth_dspy", name, TASK, *args, "--runs", str(runs)]


@contextmanager
def process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def bare(program: Path) -> None:
    """Answer lists of questions from standard input, `[at once, questions]`, and print the seconds of each answer."""
    import dspy

    from synth_dspy.core.executor import LEAN
    from synth_dspy.pipeline.saved import load

    loaded = load(program)

    def ask(question: Question) -> float:
        began = time.perf_counter()
        with dspy.settings.context(**LEAN):
            loaded(**question)
        return time.perf_counter() - began

    sys.setswitchinterval(SWITCH_S)  # as the service has it, whose gain this would otherwise be
    ask(questions()[0])
    print("ready", flush=True)
    for line in sys.stdin:
        at_once, asked = json.loads(line)
        with ThreadPoolExecutor(at_once) as pool:
            print(json.dumps(list(pool.map(ask, asked))), flush=True)


async def through_service(url: str, at_once: int, asked: Sequence[Question]) -> list[float]:
    """Seconds of each answer of the service."""
    left = iter(asked)
    seconds: list[float] = []

    async def worker(client: aiohttp.ClientSession) -> None:
        for question in left:
            began = time.perf_counter()
            async with client.post("/answer", json=question) as response:
                assert response.status == 200, await response.text()
                await response.read()
            seconds.append(time.perf_counter() - began)

    async with session(url) as client:
        await asyncio.gather(*(worker(client) for _ in range(at_once)))
    return seconds


def session(url: str) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout(total=300))


def compare(url: str, running: subprocess.Popen[str], at_once: int, count: int, rounds: int) -> dict[str, Any]:
    """Answer the same questions with both, in turns."""
    stdin, stdout = pipes(running)
    ratios, medians = [], []
    source = cycle(questions())
    for number in range(rounds):
        asked = list(islice(source, count))

        def bare_seconds(asked: list[Question] = asked) -> list[float]:
            print(json.dumps([at_once, asked]), file=stdin, flush=True)
            times: list[float] = json.loads(stdout.readline())
            return times

        def service_seconds(asked: list[Question] = asked) -> list[float]:
            return asyncio.run(through_service(url, at_once, asked))

        if number % 2:
            theirs, ours = bare_seconds(), service_seconds()
        else:
            ours, theirs = service_seconds(), bare_seconds()
        medians.append((statistics.median(ours), statistics.median(theirs)))
        ratios.append(statistics.mean(ours) / statistics.mean(theirs))
    return {
        "at_once": at_once,
        "answers": count * rounds,
        "median_s": [round(statistics.median(column), 4) for column in zip(*medians, strict=True)],
        "ratio_of_mean_latency": round(statistics.median(ratios), 3),
        "ratios": [round(each, 3) for each in ratios],
    }


def pipes(running: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert running.stdin is not None
    assert running.stdout is not None
    return running.stdin, running.stdout


async def load(url: str, at_once: int, seconds: float, moves: Sequence[list[str]]) -> dict[str, Any]:
    """Ask and rate for some time, while aliases are moved; what was answered, how fast."""
    ends = time.monotonic() + seconds
    source = cycle(questions())
    statuses: Counter[str] = Counter()
    answers: list[tuple[str, str, float]] = []
    rated: list[tuple[str, float]] = []
    versions: Counter[str] = Counter()
    refusals: list[str] = []

    async def worker(client: aiohttp.ClientSession) -> None:
        while time.monotonic() < ends:
            began = time.perf_counter()
            async with client.post("/answer", json=next(source)) as response:
                statuses[f"answer {response.status}"] += 1
                body = await response.json()
            if response.status != 200:
                refusals.append(str(body))
                continue
            answers.append((body["request"], body["answer"], time.perf_counter() - began))
            versions[body["version"]] += 1
            given = {"request": body["request"], "kind": "score", "value": random.randint(1, 5)}
            began = time.perf_counter()
            async with client.post("/feedback", json=given) as response:
                statuses[f"feedback {response.status}"] += 1
                rated.append(((await response.json())["id"], time.perf_counter() - began))

    async def move() -> None:
        for number, command in enumerate(moves, start=1):
            await asyncio.sleep(max(0.0, ends - seconds * (1 - number / (len(moves) + 1)) - time.monotonic()))
            moved = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.DEVNULL)
            assert await moved.wait() == 0

    async with session(url) as client:
        await asyncio.gather(move(), *(worker(client) for _ in range(at_once)))
    return {
        "statuses": dict(statuses),
        "versions": dict(versions),
        "refusals": refusals[:3],
        "answers_a_second": round(len(answers) / seconds, 2),
        "answer_s": quantiles([each[2] for each in answers]),
        "feedback_ms": quantiles([1000 * each[1] for each in rated]),
        "answered": [each[:2] for each in answers],
        "rated": [each[0] for each in rated],
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {f"p{p}": round(ordered[min(len(ordered) - 1, p * len(ordered) // 100)], 3) for p in (50, 95, 99)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--at-once", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bare", type=Path)
    options = parser.parse_args()
    if options.bare is not None:
        bare(options.bare)
        return

    from synth_dspy.loop.records import Feedback, Request
    from synth_dspy.loop.registry import Registry
    from synth_dspy.loop.store import FILE, Store

    with tempfile.TemporaryDirectory() as place:
        runs = Path(place) / "runs"
        run = contracts_run(runs)
        store = Store.open(runs / TASK / FILE, TASK)
        registry = Registry(store)
        for arm in ("rag", "again"):
            registry.register(run, arm)
        registry.promote("v1", "person:benchmark", "the first")
        with process(verb("serve", "--port", "0", runs=runs)) as serving:
            url = pipes(serving)[1].readline().split(" at ")[1].strip()
            show({"cores": os.cpu_count(), "load_average": os.getloadavg()[0]})
            if options.rounds:
                with process([sys.executable, __file__, "--bare", str(run / "programs" / "rag")]) as contender:
                    assert pipes(contender)[1].readline() == "ready\n"
                    for at_once, count in ((1, 10), (options.at_once, options.at_once)):
                        show(compare(url, contender, at_once, count, options.rounds))
            if not options.minutes:
                return
            moves = [verb("promote", "v2", runs=runs), verb("rollback", runs=runs)]
            loaded = asyncio.run(load(url, options.at_once, 60 * options.minutes, moves))
            serving.send_signal(signal.SIGKILL)
        kept = {(each.id, each.answer) for each in store.read(Request)}
        opinions = {each.id for each in store.read(Feedback)}
        answered, rated = loaded.pop("answered"), loaded.pop("rated")
        lost = {"answers": len(set(map(tuple, answered)) - kept), "feedback": len(set(rated) - opinions)}
        show(loaded | {"lost": lost})


def show(part: dict[str, Any]) -> None:
    print(json.dumps(part), flush=True)


if __name__ == "__main__":
    main()
