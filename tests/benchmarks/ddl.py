"""CREATE TABLE statements generated and validated: how many parse and run, how long it takes, over which sectors.

    python tests/benchmarks/ddl.py
    python tests/benchmarks/ddl.py --count 3600 --naics path/to/naics_2022.csv
    python tests/benchmarks/ddl.py --count 40 --teacher embedded/path/to/a/stronger.gguf

Without a teacher, structure is sampled from the vocabulary and no model is asked; with one, it writes whole statements.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--naics", type=Path, help="a list of industries with the columns code and title")
    parser.add_argument("--teacher", help="let this model write the statements")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write every statement with its verdict to this JSONL file")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from synth_dspy.domains.tables.filters import Runs
    from synth_dspy.domains.tables.generate import Sampler, read_industries, read_vocabulary
    from synth_dspy.domains.tables.source import INDUSTRIES, VOCABULARY, Industries
    from synth_dspy.domains.tables.synthesis import SAMPLE
    from synth_dspy.synthesis.pipeline import reason

    sampler = Sampler(read_vocabulary(SAMPLE / VOCABULARY), args.seed)
    industries = read_industries(args.naics or SAMPLE / INDUSTRIES)
    source = Industries(SAMPLE, naics=args.naics)
    judge, verdicts, kept, rows = Runs(), Counter(), [], []
    sectors: Counter[str] = Counter()
    wall, cpu = time.perf_counter(), time.process_time()
    written = _written(source, sampler, args) if args.teacher else _sampled(sampler, industries, args.count)
    for candidate in written:
        verdict = judge(candidate)
        verdicts["kept" if verdict.keep else reason(verdict.why)] += 1
        made = candidate.unit.made
        if verdict.keep:
            kept.append(made)
            sectors[candidate.unit.group[:2]] += 1
        rows.append(
            {"industry": candidate.unit.group, "dialect": made.table.dialect, "ddl": made.ddl, "why": verdict.why}
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    total = verdicts.total()
    print(f"{total} statements in {wall:.1f} s ({cpu:.1f} s CPU, {1000 * wall / total:.1f} ms each)")
    print(f"kept {len(kept)} ({len(kept) / total:.1%}); distinct: {len({made.ddl for made in kept})}")
    print("verdicts", dict(verdicts))
    sizes = sorted(len(made.table.columns) for made in kept) or [0]
    print("dialects", dict(Counter(made.table.dialect for made in kept)))
    print("columns: fewest, median, most", (sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    print("sectors", dict(sorted(sectors.items())))
    if args.out:
        args.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _sampled(sampler: object, industries: list, count: int) -> Iterator:
    """Candidates without a comment, one for each statement, spread evenly over the industries."""
    from synth_dspy.core.knowledge import Candidate
    from synth_dspy.domains.tables.units import TableUnit

    for number in range(count):
        industry = industries[number % len(industries)]
        made = sampler.sample(industry, number // len(industries))
        yield Candidate(str(number), TableUnit(str(number), industry.code, industry.title, made), {})


def _written(source: object, sampler: object, args: argparse.Namespace) -> Iterator:
    """The first candidate of each unit that a capable teacher writes about; its comments are not asked for."""
    import tempfile

    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.core.ledger import Ledger
    from synth_dspy.domains.tables.synthesizer import TableSynthesizer
    from synth_dspy.models import roles

    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        teacher = roles.lm_for(args.teacher, role="teacher", ledger=ledger)
        dspy.configure(lm=teacher)
        synthesizer = TableSynthesizer(sampler, free=True, per_table=1, samples=1, seed=args.seed)
        units = synthesizer.plan(source.read().items, args.count)
        for outcome in Executor(16).map(synthesizer, units):
            yield from outcome.value or ()


if __name__ == "__main__":
    main()
