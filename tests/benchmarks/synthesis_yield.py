"""How much of what a teacher writes is kept, what each filter rejects, and what it costs.

    python tests/benchmarks/synthesis_yield.py
    python tests/benchmarks/synthesis_yield.py --cuad ../shared/data/cuad --limit 20
    python tests/benchmarks/synthesis_yield.py --teacher embedded/path/to/a/stronger.gguf --free

Prints the yield of every filter, seconds, and randomly drawn kept pairs to be read by a human.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", default="embedded/smollm2-135m-instruct")
    parser.add_argument("--cuad", type=Path)
    parser.add_argument("--limit", type=int, help="documents")
    parser.add_argument("--candidates", type=int, default=150)
    parser.add_argument("--free", action="store_true", help="questions about chunks instead of spans")
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--out", type=Path, help="write every candidate with its verdicts to this JSONL file")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.core.ledger import Ledger
    from synth_dspy.core.resources import Resources
    from synth_dspy.domains.documents.contract_synthesis import CONTRACTS
    from synth_dspy.domains.documents.contract_wording import contract_wording
    from synth_dspy.domains.documents.index import Index
    from synth_dspy.domains.documents.retrieval import Retriever
    from synth_dspy.domains.documents.source import Corpus
    from synth_dspy.models import roles
    from synth_dspy.pipeline import datasets
    from synth_dspy.synthesis.pipeline import synthesise

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.sqlite")
        teacher = roles.lm_for(args.teacher, role="teacher", ledger=ledger)
        dspy.configure(lm=teacher)
        embedder = roles.embedder_for("embedded/all-minilm-l6-v2")
        knowledge = Corpus(ROOT / "data" / "contracts", CONTRACTS.abstention, cuad=args.cuad).read(args.limit)
        splits = datasets.split(knowledge, 0)
        index = Index(Path(folder) / "index", embedder)
        index.update(knowledge.documents)
        resources = Resources(
            student=teacher,
            teacher=teacher,
            judge_lm=None,
            judge_model="reference",
            embedder=embedder,
            retriever=Retriever(index, wording=contract_wording),
            executor=Executor(16),
            seeds=splits["train"].labelled,
            held_out=splits["dev"].labelled + splits["test"].labelled,
            words=200,
        )
        list(teacher("Ready?"))  # loading the model is not synthesis
        wall, cpu = time.perf_counter(), time.process_time()
        synthesizer = CONTRACTS.synthesizer(resources, free=args.free)
        synthesizer.set_lm(teacher)
        made = synthesise(
            splits["train"].items,
            synthesizer,
            CONTRACTS.filters(resources, free=args.free),
            executor=resources.executor,
            ledger=ledger,
            limit=args.candidates,
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        calls = ledger.totals("role")
    print(f"{len(splits['train'].groups)} training documents, {len(splits['train'].items)} chunks")
    print(f"{len(made.candidates)} candidates, {len(made.kept)} kept in {wall:.0f} s ({cpu:.0f} s CPU)", made.failures)
    for entry in made.filters:
        reasons = ", ".join(f"{why}: {n}" for why, n in entry.reasons.items())
        print(f"  {entry.name:22} {entry.judged:4} -> {entry.kept:4}   {reasons}")
    print("contamination", made.contamination)
    print("calls", calls)
    if args.out:
        args.out.write_text("".join(json.dumps(row) + "\n" for row in made.candidate_rows()))
    for example in random.Random(1).sample(made.kept, min(args.show, len(made.kept))):
        print(
            f"\n[{example.document}, {example.category}] {example.question}\n  {example.answer}\n  <- {example.source}"
        )


if __name__ == "__main__":
    main()
