"""The decision to answer or to decline, on 300 real questions, and 40 adversarial prompts, for every arm of a run.

python tests/benchmarks/scope.py runs/scoped_assistant/<id> --banking77 ../shared/data/banking77 \
    --clinc150 ../shared/data/clinc150

150 questions are in scope (half Banking77, half CLINC150's banking and credit cards), 150 are not (CLINC150's other
domains and what lies outside them), spread evenly over intents. Everything goes through a ledger in the run's folder:
the same command goes on where it was stopped. The line (always) is what declining everything would get.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from synth_dspy.core.config import compile_settings
from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.progress import Bars
from synth_dspy.core.workspace import find_workspace, import_from, task_file
from synth_dspy.domains.assistant.real import read_real, some
from synth_dspy.evaluation import runner
from synth_dspy.pipeline import datasets, rescore, saved


def real_questions(task: Any, banking77: Path, clinc150: Path, number: int) -> list[dspy.Example]:
    """Half in scope, of both data sets, half out of scope."""
    rows = [task.source.real_example(q) for path in (banking77, clinc150) for q in some(read_real(path), 20)]
    pools: dict[str, list[dspy.Example]] = {}
    for row in rows:
        pools.setdefault(row.category, []).append(row)
    shares = {category: number // (2 if "out" in category else 4) for category in pools}
    return [row for category, pool in sorted(pools.items()) for row in datasets.spread(pool, shares[category], 0)]


def decline_scores(rows: Sequence[Mapping[str, Any]], *, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Precision, recall and F1 of declining, F1's 95 % interval (bootstrap over questions), and the shares of what was
    answered and declined wrongly.

    Args:
        rows: with `references` (empty: should be declined) and `abstained`.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    should = np.array([not row["references"] for row in rows], dtype=bool)
    did = np.array([bool(row["abstained"]) for row in rows], dtype=bool)
    hit, drawn = should & did, np.random.default_rng(seed).integers(0, len(rows), (resamples, len(rows)))
    sampled = 2 * hit[drawn].sum(axis=1) / np.maximum(should[drawn].sum(axis=1) + did[drawn].sum(axis=1), 1)
    low, high = np.percentile(sampled, [2.5, 97.5])
    return {
        "n": len(rows),
        "out": int(should.sum()),
        "precision": _share(hit.sum(), did.sum()),
        "recall": _share(hit.sum(), should.sum()),
        "f1": float(2 * hit.sum() / max(should.sum() + did.sum(), 1)),
        "low": float(low),
        "high": float(high),
        "answered_wrongly": _share((should & ~did).sum(), should.sum()),
        "declined_wrongly": _share((~should & did).sum(), (~should).sum()),
    }


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else math.nan


def ask(
    run: Path, task: Any, workspace: Path, examples: Sequence[dspy.Example], arms: Sequence[str], label: str
) -> dict[str, list[dict[str, Any]]]:
    """Predictions of every saved program of the run, by arm."""
    config = compile_settings(task_file(workspace, "scoped_assistant"))()
    predictions: dict[str, list[dict[str, Any]]] = {}
    bars = Bars()
    with Ledger(run / "scope.sqlite") as ledger:
        executor = Executor(config.concurrency)
        judge = rescore._judge(task, config, executor, ledger)
        for program in rescore.find_programs([run]):
            if arms and program.arm not in arms:
                continue
            module = saved.load(program.folder, workspace=workspace)
            rescore._remember(module, ledger)
            with bars.bar(f"{label}: {program.arm}", len(examples)) as advance:
                predictions[program.arm] = runner.run_arm(
                    program.arm,
                    module,
                    examples,
                    metrics=task.metrics,
                    judge=judge,
                    executor=executor,
                    ledger=ledger,
                    advance=advance,
                )
    return predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--banking77", type=Path, required=True)
    parser.add_argument("--clinc150", type=Path, required=True)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--arms", nargs="*", default=[])
    parser.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    args = parser.parse_args()
    workspace = find_workspace(Path(__file__).parent)
    assistant = import_module("synth_dspy.domains.assistant.metrics")
    task = import_from(workspace, "programs.scoped_assistant").scoped_assistant()
    questions = real_questions(task, args.banking77, args.clinc150, args.number)
    attempts = task.source.read_labelled(task.source.house.folder / "adversarial.jsonl")
    figures: dict[str, Any] = {"topics": _topics(args.run), "arms": {}}
    print(f"{len(questions)} real questions: {dict(Counter(row.category for row in questions))}")
    by_arm = ask(args.run, task, workspace, questions, args.arms, "real questions")
    attacked = ask(args.run, task, workspace, attempts, args.arms, "adversarial prompts")
    head = (
        "arm        F1 of declining (95 %)  precision  recall  answered, out  declined, in  rules broken  prompt tokens"
    )
    print(f"\n{head} seconds\n{'-' * (len(head) + 8)}")
    constant = decline_scores([{**row.toDict(), "abstained": True} for row in questions])
    print("{0:<10} {f1:.3f} ({low:.3f} - {high:.3f})  {precision:9.3f}".format("(always)", **constant))
    figures["always_decline_f1"] = constant["f1"]
    for arm, rows in by_arm.items():
        scores = decline_scores(rows)
        broken = [assistant.broken_rules(row, row["prediction"], task.source.house.rules) for row in attacked[arm]]
        tokens = _mean(rows, "prompt_tokens")
        seconds = _mean(rows, "cpu_s")
        print(
            f"{arm:<10} {scores['f1']:.3f} ({scores['low']:.3f} - {scores['high']:.3f})  {scores['precision']:9.3f}  "
            f"{scores['recall']:6.3f}  {scores['answered_wrongly']:13.1%}  {scores['declined_wrongly']:12.1%}  "
            f"{sum(map(bool, broken)):5d} of {len(broken):3d}  {tokens:13.0f}  {seconds:6.2f}"
        )
        figures["arms"][arm] = {
            **scores,
            "adversarial": len(broken),
            "broke_a_rule": sum(map(bool, broken)),
            "rules_broken": dict(Counter(rule for rules in broken for rule in rules).most_common()),
            "prompt_tokens": tokens,
            "cpu_s": seconds,
        }
    print(f"\nrows by topic, in the run's training data: {figures['topics']}")
    for arm, arm_figures in figures["arms"].items():
        print(f"rules broken under attack, {arm}: {arm_figures['rules_broken']}")
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _topics(run: Path) -> dict[str, int]:
    lines = (run / "datasets" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return dict(Counter(json.loads(line)["group"] for line in lines).most_common())


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float:
    values = [row[name] for row in rows if row[name] is not None]
    return sum(values) / len(values) if values else float("nan")


if __name__ == "__main__":
    main()
