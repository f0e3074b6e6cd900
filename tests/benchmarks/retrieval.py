"""How much of what lawyers marked in CUAD's contracts is among the passages that a program is given.

    python tests/benchmarks/retrieval.py ../shared/data/cuad --limit 40

A question counts as found if one of its marked spans stands whole in a passage (white space aside); the shares of
spans, by question and over all, are printed too. The interval is a bootstrap over contracts, 95 %. `--half` takes only
the contracts that constants were chosen on (tune) or only the others (report). `--search 60` tries so many settings on
`--tune` contracts of the former, and compares the best with the defaults on `--limit` of the latter.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from synth_dspy import metrics
from synth_dspy.core.config import Retrieval
from synth_dspy.core.knowledge import Document
from synth_dspy.core.splits import split_groups
from synth_dspy.domains.documents.cleaning import normalise_space
from synth_dspy.domains.documents.contract_wording import contract_wording
from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.domains.documents.index import Index
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.retrieval import PASSAGE_WORDS, Retriever
from synth_dspy.domains.documents.search import try_settings, tuned
from synth_dspy.models.embedder import EmbeddedEmbedder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuad", type=Path)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--words", type=int, default=PASSAGE_WORDS)
    parser.add_argument("--search", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--tune", type=int, default=40)
    parser.add_argument("--half", choices=["tune", "report"])
    parser.add_argument("--index", type=Path, help="keep the index here, so that the next run need not embed again")
    args = parser.parse_args()

    documents, rows = read_cuad(args.cuad, None if args.half or args.search else args.limit)
    sides = split_groups((document.id for document in documents), [("tune", 0.5), ("report", 0.5)], seed=7)
    if args.search:
        halves = [[document for document in documents if sides[document.id] == half] for half in ("tune", "report")]
        return compare(halves[0][: args.tune], halves[1][: args.limit], rows, args)
    if args.half:
        documents = [document for document in documents if sides[document.id] == args.half][: args.limit]
    kept = {document.id for document in documents}
    rows = [row for row in rows if row["spans"] and row["document"] in kept]
    with tempfile.TemporaryDirectory() as folder:
        index = Index(args.index or Path(folder), EmbeddedEmbedder())
        print(index.update(documents))
        retriever = Retriever(index, wording=contract_wording)
        start = time.perf_counter()
        retrieved = retriever.search_many([r["question"] for r in rows], [r["document"] for r in rows], args.words)
        seconds = time.perf_counter() - start

    hits: list[float] = []
    shares: list[float] = []
    words: list[int] = []
    spans = inside = 0
    by_category: defaultdict[str, list[float]] = defaultdict(list)
    by_contract: defaultdict[str, list[float]] = defaultdict(list)
    for row, passages in zip(rows, retrieved, strict=True):
        texts = [normalise_space(passage.text) for passage in passages]
        held = [any(normalise_space(span) in text for text in texts) for span in row["spans"]]
        hits.append(float(any(held)))
        shares.append(float(np.mean(held)))
        spans += len(held)
        inside += sum(held)
        words.append(sum(len(passage.text.split()) for passage in passages))
        by_category[row["category"]].append(hits[-1])
        by_contract[row["document"]].append(hits[-1])
    low, high = interval(list(by_contract.values()))
    print(f"contracts {len(documents)}, questions with marked spans n {len(rows)}, spans {spans}")
    print(f"a marked span is among the passages: {np.mean(hits):.3f} [{low:.3f}, {high:.3f}]")
    print(f"share of a question's spans: {np.mean(shares):.3f}; of all spans: {inside / spans:.3f}")
    print(f"words of passages: mean {np.mean(words):.0f}, most {max(words)}")
    print(f"{1000 * seconds / len(rows):.1f} ms a question, embedding and reading the index included")
    for category, values in sorted(by_category.items(), key=lambda item: np.mean(item[1])):
        print(f"  {np.mean(values):.2f}  n {len(values):3d}  {category}")


def compare(tune: list[Document], report: list[Document], rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Search on some contracts, and print what the defaults and the best settings find in others."""
    embedder = EmbeddedEmbedder()

    def questions(documents: list[Document]) -> list[dspy.Example]:
        kept = {document.id for document in documents}
        return [dspy.Example(**row) for row in rows if row["spans"] and row["document"] in kept]

    with tempfile.TemporaryDirectory() as folder:
        place = args.index or Path(folder)
        retriever = Collection(place / "tune", tune, embedder, contract_wording).retriever(Retrieval())
        start = time.perf_counter()
        trials = try_settings(retriever, tune, questions(tune), args.words, args.search)
        best = max(trials, key=lambda trial: trial.worth)
        print(
            f"{len(trials)} settings on {len(tune)} contracts, n {len(questions(tune))}: "
            f"{time.perf_counter() - start:.0f} s"
        )
        for trial in (trials[0], best):
            print(f"  {trial.recall:.3f}, {trial.words:.0f} words: {tuned(trial.settings)}")
        unseen = Collection(place / "report", report, embedder, contract_wording)
        shares = {}
        for name, trial in (("defaults", trials[0]), ("searched", best)):
            searched = unseen.retriever(trial.settings)
            asked = questions(report)
            results = searched.search_many([q.question for q in asked], [q.document for q in asked], args.words)
            shares[name] = [
                metrics.retrieval_recall(q, {"passages": [passage.text for passage in passages]})
                for q, passages in zip(asked, results, strict=True)
            ]
    shares["difference"] = [b - a for a, b in zip(shares["defaults"], shares["searched"], strict=True)]
    print(
        f"on {len(report)} other contracts, n {len(asked)}: share of a question's gold spans within {args.words} words"
    )
    for name, values in shares.items():
        by_contract: defaultdict[str, list[float]] = defaultdict(list)
        for question, value in zip(asked, values, strict=True):
            by_contract[question.document].append(value)
        low, high = interval(list(by_contract.values()))
        print(f"  {name}: {np.mean(values):.3f} [{low:.3f}, {high:.3f}]")


def interval(contracts: list[list[float]], samples: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over all questions, whole contracts drawn together."""
    random = np.random.default_rng(0)
    sums = np.array([sum(values) for values in contracts])
    sizes = np.array([len(values) for values in contracts])
    draws = random.integers(len(contracts), size=(samples, len(contracts)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
