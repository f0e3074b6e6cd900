"""Seconds to embed and index contracts, then to find that nothing has changed, then to follow one edit.

python tests/benchmarks/indexing.py ../shared/data/cuad --limit 100
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.domains.documents.index import Index
from synth_dspy.models.embedder import EmbeddedEmbedder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuad", type=Path)
    parser.add_argument("--limit", type=int, default=100)
    args = parser.parse_args()

    documents, _ = read_cuad(args.cuad, args.limit)
    embedder = EmbeddedEmbedder()
    embedder.embed(["loads the model before the clock runs"])
    edited = dataclasses.replace(documents[0], text=documents[0].text.replace("shall", "will", 1))
    with tempfile.TemporaryDirectory() as folder:
        seconds = {}
        for name, these in (("first", documents), ("unchanged", documents), ("one edit", [edited, *documents[1:]])):
            start = time.perf_counter()
            stats = Index(Path(folder), embedder).update(these)
            seconds[name] = time.perf_counter() - start
            print(f"{name}: {seconds[name]:.2f} s with opening the index; {stats}")
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    for name in ("unchanged", "one edit"):
        print(f"{name} / first: {100 * seconds[name] / seconds['first']:.2f} %")
    print(f"size of the index: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
