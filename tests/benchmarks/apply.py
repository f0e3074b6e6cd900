"""`apply` on many rows, against a loopback server that answers in 50 ms.

    python tests/benchmarks/apply.py [--rows 100000] [--concurrency 64] [--kills 3] [--tables 3600]

Prints rows a second of a bare aiohttp client and of `apply`, its memory as rows are done, the same job killed with
SIGKILL and resumed, with the number of answered requests that were made again; then the tables and columns of a schema
documented by the program of table_docs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from applied import workspace_with_program
from many_calls import bare, server

ROOT = Path(__file__).resolve().parents[2]


def write_rows(path: Path, rows: int) -> None:
    """Questions about numbers; one in a hundred repeats an earlier one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = [number if number % 100 else number // 2 for number in range(rows)]
    table = pa.table({"id": list(range(rows)), "q": [f"What is {number} plus one?" for number in numbers]})
    pq.write_table(table, path, row_group_size=10_000)


def command(program: Path, rows: Path, out: Path, api_base: str, concurrency: int, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "synth_dspy", "apply", str(program), "--input", str(rows), "--output", str(out),
        "--columns", "question=q", "--api-base", api_base, "--concurrency", str(concurrency), *more,
    ]  # fmt: skip


def lines_of(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def follow(
    process: subprocess.Popen[bytes], log: Path, marks: list[int], stop_at: int | None = None
) -> dict[int, float]:
    """The process's resident memory in MB when so many requests are answered; it is killed at `stop_at`."""
    memory: dict[int, float] = {}
    left = list(marks)
    while process.poll() is None:
        done = lines_of(log)
        if left and done >= left[0]:
            memory[left.pop(0)] = psutil.Process(process.pid).memory_info().rss / 1e6
        if stop_at is not None and done >= stop_at:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.2)
    process.wait()
    return memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--tables", type=int, default=3_600)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ |= {"XDG_CONFIG_HOME": str(home / "config"), "PYTHONPATH": str(ROOT)}
        program = workspace_with_program(home / "work")
        rows = home / "rows.parquet"
        write_rows(rows, given.rows)
        with server() as api_base:
            rate = bare(api_base, min(given.rows, 10_000), given.concurrency)["rows_per_s"]
        print(f"bare client {rate:,.0f} rows/s", flush=True)
        log, out = home / "answered.log", home / "answers.parquet"
        with server(log=str(log)) as api_base:
            began = time.perf_counter()
            marks = [given.rows // 10, given.rows // 2, int(given.rows * 0.98)]
            process = subprocess.Popen(command(program, rows, out, api_base, given.concurrency), cwd=home / "work")
            memory = follow(process, log, marks)
            seconds = time.perf_counter() - began
            made = Counter(log.read_text().split())
        print(
            f"apply: {given.rows / seconds:,.0f} rows/s in all, {given.rows / seconds / rate:.2f} of bare; "
            f"{len(made):,} requests, {sum(made.values()) - len(made)} repeated; MB at rows: "
            f"{ {mark: round(mb) for mark, mb in memory.items()} }",
            flush=True,
        )
        kill(program, home, rows, given)
        if given.tables:
            document(home, given)


def kill(program: Path, home: Path, rows: Path, given: argparse.Namespace) -> None:
    """The same job, on a copy of the input, killed and resumed."""
    copy, log, out = home / "again.parquet", home / "killed.log", home / "again.csv"
    copy.write_bytes(rows.read_bytes())
    rng = random.Random(0)
    stops = sorted(rng.uniform(0.1, 0.9) for _ in range(given.kills))
    with server(log=str(log)) as api_base:
        typed = command(program, copy, out, api_base, given.concurrency)
        for share in stops:
            process = subprocess.Popen(typed, cwd=home / "work", stderr=subprocess.DEVNULL)
            follow(process, log, [], int(share * given.rows))
            time.sleep(1)  # requests that were under way are answered
            print(f"killed with {lines_of(log):,} answered", flush=True)
        subprocess.run(typed, cwd=home / "work", check=True)
        made = Counter(log.read_text().split())
    print(f"resumed: {len(made):,} requests, {sum(made.values()) - len(made)} repeated", flush=True)


def document(home: Path, given: argparse.Namespace) -> None:
    """The tables of an SQLite database: those of the sample in new names, so that no two prompts are alike."""
    import sqlite3

    from synth_dspy.domains.tables.labelled import read_tables

    database, rng = home / "shop.sqlite", random.Random(0)
    tables = read_tables(ROOT / "data" / "industries" / "tables")
    with sqlite3.connect(database) as connection:
        for number in range(given.tables):
            table = tables[number % len(tables)]
            columns = ", ".join(f'"{column.name}_{rng.randrange(10**6)}" TEXT' for column in table.columns)
            connection.execute(f'CREATE TABLE "{table.name}_{number}" ({columns})')
    program = workspace_with_program(home / "tables", task="table_docs")
    out = home / "docs.parquet"
    with server(reply="The name of the column.") as api_base:
        typed = [
            sys.executable, "-m", "synth_dspy", "apply", str(program), "--input", str(database), "--output", str(out),
            "--api-base", api_base, "--concurrency", str(given.concurrency),
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(typed, cwd=home / "tables", check=True)
    import pyarrow.parquet as pq

    rows = pq.read_table(out)
    written = sum(bool(answer) for answer in rows["answer"].to_pylist())
    print(
        f"{given.tables:,} tables: {rows.num_rows:,} comments wanted, {written:,} written "
        f"({written / rows.num_rows:.1%}) in {time.perf_counter() - began:,.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
