"""What synthesis of function calls wrote: the yield of each filter, every kept candidate called again, some to read.

The part of `calling.py` that reads a run's `datasets/candidates-*.jsonl`, and makes such a run where none is named.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from synth_dspy.cli.compile import main as compile_task
from synth_dspy.core.config import compile_settings, read_toml
from synth_dspy.core.executor import Executor
from synth_dspy.core.io import jsonl
from synth_dspy.core.run import CONFIG
from synth_dspy.core.workspace import find_workspace, task_file
from synth_dspy.domains.functions.schema import Function
from synth_dspy.domains.functions.syntax import parse, render
from synth_dspy.pipeline import saved
from synth_dspy.synthesis.pipeline import FilterYield, reason

WORKSPACE = find_workspace(Path(__file__).parent)
TASK = "function_calling"
FIELDS = {"id": jsonl.ID, "category": jsonl.FILLED, "answer": jsonl.FILLED, "results": jsonl.OBJECTS,
          "kept": jsonl.BOOL, "verdicts": jsonl.OBJECTS}  # fmt: skip
HOW = """Right is a candidate whose request a person could have made, asks for exactly these calls with exactly these
values (nothing missing, nothing that was not said), and whose reply, if there is one, says the result. Where there is
no call, that must be right: no function fits, something needed was not said, or nothing is requested.
"""


def synthesis(run: Path | None, number: int, teacher: str | None, show: int, seed: int, out: Path | None) -> None:
    """Print the account of a run's candidates, and write some kept ones to be read."""
    run = run or new_run(number, teacher)
    config = read_toml(run / CONFIG, compile_settings(task_file(WORKSPACE, TASK)))
    functions = saved.build_task(WORKSPACE, TASK, config).source.own()  # type: ignore[attr-defined]
    rows = [row for path in sorted((run / "datasets").glob("candidates-*.jsonl")) for row in candidates(path)]
    kept = [row for row in rows if row["kept"]]
    print(f"{run}: teacher {config.models.teacher}, {len(rows)} candidates, {len(kept)} kept")
    for entry in filter_yields(rows):
        reasons = ", ".join(f"{why}: {count}" for why, count in entry.reasons.items())
        print(f"  {entry.name:22} {entry.judged:4} -> {entry.kept:4}   {reasons}")
    print("  kept, by category:", dict(Counter(row["category"] for row in kept).most_common()))
    began = time.perf_counter()
    repeated = Counter(called_again(kept, functions))
    print(
        f"called again, each in a process of its own ({time.perf_counter() - began:.0f} s): {dict(repeated)}",
        flush=True,
    )
    path = out or run / "to-read.txt"
    path.write_text(to_read(kept, show, seed), encoding="utf-8")
    print(f"{min(show, len(kept))} kept candidates to be read: {path}")


def new_run(number: int, teacher: str | None) -> Path:
    """A run with so many candidates, its untuned arm alone, and one held-out question."""
    runs = WORKSPACE / compile_settings(task_file(WORKSPACE, TASK))().runs / TASK
    before = set(runs.glob("*"))
    args = [TASK, "--synthesis.candidates", str(number), "--evaluation.arms", "zero_shot",
            "--evaluation.held-out", "1", "--evaluation.validation", "1", "--retention.prompts", "0"]  # fmt: skip
    compile_task([*args, *(["--models.teacher", teacher] if teacher else [])])
    (run,) = (path for path in set(runs.glob("*")) - before if (path / CONFIG).is_file())
    return run


def candidates(path: Path) -> list[dict[str, Any]]:
    """The rows of a candidates file; none where nothing was written."""
    return jsonl.read_rows(path, FIELDS, unique="id") if path.stat().st_size else []


def filter_yields(rows: Sequence[Mapping[str, Any]]) -> list[FilterYield]:
    """The yield of each filter, in their order, from the verdicts that stand beside the candidates."""
    order = max((row["verdicts"] for row in rows), key=len, default=[])
    given = [verdict for row in rows for verdict in row["verdicts"]]
    results = []
    for name in (verdict["filter"] for verdict in order):
        mine = [verdict for verdict in given if verdict["filter"] == name]
        why = Counter(reason(verdict["why"]) for verdict in mine if not verdict["keep"])
        results.append(FilterYield(name, len(mine), len(mine) - why.total(), dict(why.most_common())))
    return results


def called_again(rows: Sequence[Mapping[str, Any]], functions: Mapping[str, Function]) -> list[str]:
    """Of each candidate, what came of making its calls again in a sandbox that nobody has used."""
    workshop = import_module("synth_dspy.domains.functions.program").Workshop
    is_executable = import_module("synth_dspy.domains.functions.filters").is_executable

    def again(row: Mapping[str, Any]) -> str:
        calls = parse(row["answer"], "json")
        if not calls:
            return "no call"
        if not all(is_executable(call, functions) for call in calls):
            return "not run: changes something"
        sandboxes = workshop(functions.values())
        try:
            outcomes = [outcome.as_json() for outcome in sandboxes.run(calls)]
        finally:
            sandboxes.close()
        if outcomes == row["results"]:
            return "same result" if all(not each["error_type"] for each in outcomes) else "same error"
        print(f"  differs: {row['id']} {row['answer']}: {row['results']}, now {outcomes}")
        return "another result"

    return [outcome.unwrap() for outcome in Executor(2).map(again, rows)]


def to_read(rows: Sequence[Mapping[str, Any]], number: int, seed: int) -> str:
    """Some candidates, drawn at random, as a text in which a person can mark those that are right."""
    drawn = random.Random(seed).sample(sorted(rows, key=lambda row: str(row["id"])), min(number, len(rows)))
    parts = [f"{len(drawn)} of {len(rows)} kept candidates, drawn at random (seed {seed}).\n\n{HOW}"]
    for place, row in enumerate(drawn, start=1):
        results = [each["result"] for each in row["results"]]
        fields = {
            "functions": row["functions"],
            "system": row.get("system", ""),
            "request": row["request"],
            "calls": render(parse(row["answer"], "json"), "python"),
            "results": json.dumps(results, ensure_ascii=False) if results else "",
            "reply": row.get("reply", ""),
            "right?": "[ ]",
        }
        lines = [f"{place}. {row['category']}, {row['id']}"]
        lines += [f"   {name:<10} " + text.replace("\n", "\n" + " " * 14) for name, text in fields.items() if text]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
