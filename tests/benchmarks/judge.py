"""The reference judge against people's verdicts, graded answers about contracts, and attacks that it has not seen.

    python tests/benchmarks/judge.py ../shared/data                 the shipped parameters: agreement, attacks, speed
    python tests/benchmarks/judge.py ../shared/data --parameters P  others, in the layout of parameters.json

Attacks and true answers are made in other words than those of the fit (`judge_attacks.py`), from questions of EVOUNA,
from CUAD's labels and from the sample contracts; the calibration set's held-out documents are in no fit. EVOUNA's
verdicts are in the shipped fit: their agreement is what the fit measured, each half by a fit on the other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from judge_attacks import made

from synth_dspy.evaluation.judges import PARAMETERS, ReferenceJudge
from synth_dspy.evaluation.reference_judge import examples, graded
from synth_dspy.evaluation.reference_judge.calibration import ACCEPTED, agreement
from synth_dspy.evaluation.reference_judge.examples import AnsweredItem, fold, shape
from synth_dspy.evaluation.reference_judge.judge import Parameters

DATA = Path(__file__).resolve().parents[2] / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--parameters", type=Path, default=PARAMETERS)
    parser.add_argument(
        "--half", type=int, default=1, choices=(0, 1), help="the half of the groups that attacks are of"
    )
    parser.add_argument("--items", type=int, default=150, help="items that attacks are made from, of each source")
    parser.add_argument("--show", type=int, default=0, help="failures shown of each kind")
    options = parser.parse_args()
    judge = ReferenceJudge(parameters=options.parameters)
    print(f"the fit measured: {json.dumps(Parameters.load(options.parameters).agreement)}")
    verdicts = [
        row for row in _lines(options.data / "evouna" / "verdicts.jsonl") if fold(row["group"], 2) == options.half
    ]
    speed(judge, verdicts[:2000])
    contracts(judge)
    attacks(judge, items(options.data, verdicts, options.half, options.items), options.show)


def speed(judge: ReferenceJudge, rows: list[dict[str, Any]]) -> None:
    """Print how many answers are scored a second."""
    judge.score_many(rows[:50])
    began, cpu = time.perf_counter(), time.process_time()
    judge.score_many(rows)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"speed: {len(rows) / wall:.0f} items/s of wall time, {len(rows) / cpu:.0f} items/s of one core")


def contracts(judge: ReferenceJudge) -> None:
    """Print the agreement with the graders on held-out documents, and each arm's share right."""
    rows = [row for row in _lines(DATA / "calibration" / "answers.jsonl") if graded.is_held_out(row["group"])]
    scores = judge.score_many([{**row, "prediction": row["answer"]} for row in rows])
    print(f"graded: {agreement(scores, [row['right'] for row in rows], [row['group'] for row in rows])}")
    for arm, (n, right, judged, differ) in graded.shares(rows, [score >= ACCEPTED for score in scores]).items():
        shares = f"graded {100 * right / n:.1f} %, judged {100 * judged / n:.1f} %"
        corrected = corrected_share(rows, [score >= ACCEPTED for score in scores], arm) - right / n
        print(
            f"  {arm:10} n {n:3}  {shares} ({100 * (judged - right) / n:+.1f}, corrected {100 * corrected:+.1f}), they "
            f"differ on {differ}"
        )


def corrected_share(rows: list[dict[str, Any]], accepted: list[bool], arm: str) -> float:
    """An arm's share right, each document's corrected by the judge's errors on answers to all other documents."""
    parts: list[float] = []
    for document in sorted({row["group"] for row in rows}):
        others = [(row["right"], yes) for row, yes in zip(rows, accepted, strict=True) if row["group"] != document]
        sensitivity = statistics.fmean(yes for right, yes in others if right)
        specificity = statistics.fmean(not yes for right, yes in others if not right)
        parts += [
            (yes + specificity - 1) / (sensitivity + specificity - 1)
            for row, yes in zip(rows, accepted, strict=True)
            if row["group"] == document and arm in row["arms"]
        ]
    return statistics.fmean(parts)


def items(data: Path, verdicts: list[dict[str, Any]], half: int, count: int) -> list[AnsweredItem]:
    """What attacks are made from: questions of one half of EVOUNA, CUAD's labels, and the sample contracts'."""
    rng = random.Random(20)
    graded_rows = _lines(DATA / "calibration" / "answers.jsonl")
    fitted = {row["group"] for row in graded_rows if not graded.is_held_out(row["group"])}
    clauses = [c for c in _lines(data / "cuad" / "clauses.jsonl") if fold(c["contract"], 2) == half]
    sample = [
        AnsweredItem(
            row["question"],
            tuple(row["references"]),
            row["references"][0],
            row["document"],
            shape(row["references"][0]),
        )
        for row in _lines(DATA / "contracts" / "questions.jsonl")
        if row["references"] and row["answer_type"] != "yes_no" and row["document"] not in fitted
    ]
    sources = (examples.items_from_verdicts(verdicts, rng), examples.items_from_clauses(clauses, rng))
    return [*sample, *(item for source in sources for item in rng.sample(source, min(count, len(source))))]


def attacks(judge: ReferenceJudge, known: list[AnsweredItem], show: int) -> None:
    """Print how many answers of each kind are accepted."""
    rng = random.Random(21)
    totals: dict[bool, list[bool]] = defaultdict(list)
    for kind, pairs in sorted(made(known, rng).items(), key=lambda each: (not each[0].startswith("true"), each[0])):
        rows = [{"question": k.question, "references": k.references, "prediction": answer} for k, answer in pairs]
        scores = judge.score_many(rows)
        accepted = [score >= ACCEPTED for score in scores]
        true = kind.startswith("true")
        totals[true] += accepted
        print(f"{kind:24} accepted {100 * sum(accepted) / len(accepted):5.1f} of 100 (n {len(accepted)})")
        wrong = [i for i, yes in enumerate(accepted) if yes != true]
        for i in rng.sample(wrong, min(show, len(wrong))):
            row = rows[i]
            references = [reference[:50] for reference in row["references"][:2]]
            print(
                f"    {scores[i]:.2f} | {str(row['question'])[:60]} | {references} | {str(row['prediction'])[:140]!r}"
            )
    for true, accepted in totals.items():
        share = 100 * sum(accepted) / len(accepted)
        print(f"all {'right' if true else 'wrong'} answers: accepted {share:.1f} of 100 (n {len(accepted)})")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


if __name__ == "__main__":
    main()
