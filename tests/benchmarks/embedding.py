"""How fast chunks are embedded, against sentence-transformers' default `encode` of the same model, in the same run.

    pip install sentence-transformers
    python tests/benchmarks/embedding.py [--contracts 4]

The chunks are 80 words of contracts in ../shared/data/cuad (or of the contracts in data/). Both sides get the same
list; the rounds alternate and the best of each counts. CPU seconds stand beside, for machines that do other work.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORDS = 80
ROUNDS = 3


def chunks(contracts: int) -> list[str]:
    """Chunks of `WORDS` words of the first `contracts` contracts."""
    folder = ROOT.parent / "shared" / "data" / "cuad" / "contracts"
    folder = folder if folder.is_dir() else ROOT / "data" / "contracts" / "documents"
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.iterdir())[:contracts]]
    words = [text.split() for text in texts]
    return [" ".join(each[i : i + WORDS]) for each in words for i in range(0, len(each), WORDS)]


def main() -> None:
    """Measure and print the ratio and the lowest cosine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contracts", type=int, default=4)
    texts = chunks(parser.parse_args().contracts)

    import numpy as np
    from sentence_transformers import SentenceTransformer

    from synth_dspy.models.embedder import EmbeddedEmbedder
    from synth_dspy.models.weights.registry import resolve

    ours = EmbeddedEmbedder()
    theirs = SentenceTransformer(str(resolve("all-minilm-l6-v2")), device="cpu")
    sides: dict[str, Any] = {"embedded": ours.embed, "sentence-transformers": theirs.encode}
    best = {name: (float("inf"), float("inf")) for name in sides}
    vectors = {}
    for embed in sides.values():
        embed(texts[:16])
    for _ in range(ROUNDS):
        for name, embed in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            vectors[name] = np.asarray(embed(texts))
            took = time.perf_counter() - wall, time.process_time() - cpu
            best[name] = min(best[name][0], took[0]), min(best[name][1], took[1])
    for name, (wall, cpu) in best.items():
        print(f"{name:22} {len(texts) / wall:6.1f} chunks a second, {1000 * cpu / len(texts):5.1f} CPU ms each")
    (our_wall, our_cpu), (their_wall, their_cpu) = best.values()
    reference = vectors["sentence-transformers"]
    reference = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    print(f"ratio {their_wall / our_wall:.2f} (by CPU seconds {their_cpu / our_cpu:.2f}), {len(texts)} chunks")
    print(f"lowest cosine {(vectors['embedded'] * reference).sum(axis=1).min():.6f}")


if __name__ == "__main__":
    from synth_dspy.models.offline import quiet_libraries

    quiet_libraries(offline=True)
    main()
