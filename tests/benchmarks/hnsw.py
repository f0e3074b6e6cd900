"""Chroma's HNSW graph against comparing with every chunk: recall, milliseconds a question, memory, time to build.

    python tests/benchmarks/hnsw.py ../shared/data/cuad --chunks 10000 100000 1000000 --ef 50 100 200 400

The vectors are those of CUAD's chunks of 40 words; beyond as many as there are, each further one is drawn around a real
one (Gaussian noise that leaves a cosine of about .8 to it, nearer than the median real chunk has its nearest). The
questions are CUAD's, and the wordings in which contracts answer them. Every size is built in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from synth_dspy.domains.documents.chunks import chunk_document
from synth_dspy.domains.documents.collection import open_collection
from synth_dspy.domains.documents.contract_wording import contract_wording
from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.models.embedder import EmbeddedEmbedder

COSINE = 0.8
BATCH = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cuad", type=Path)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--ef", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--vectors", type=Path, help="keep the embeddings here, so that the next run need not embed")
    parser.add_argument("--folder", type=Path, help="where the collections are built; by default a temporary folder")
    args = parser.parse_args()

    documents, rows = read_cuad(args.cuad)
    texts = [chunk.text for document in documents for chunk in chunk_document(document)]
    questions = sorted({row["question"] for row in rows})
    questions += sorted({contract_wording(question) for question in questions} - {""})
    embedder = EmbeddedEmbedder()
    queries = embedder.embed(questions)
    if args.vectors and args.vectors.exists():
        real = np.load(args.vectors)
    else:
        real = embedder.embed(texts)
        if args.vectors:
            np.save(args.vectors, real)
    own = [np.partition(real @ vector, -2)[-2] for vector in real[:: max(1, len(real) // 500)]]
    print(
        f"{len(real)} real chunks, {len(queries)} queries; median cosine of a chunk to its nearest {np.median(own):.2f}"
    )
    print(
        "chunks | ef | recall@10 | recall@100 | ms for 10 | for 100 | ms exact | s to open | MiB taken | MiB of vectors"
    )
    for size in args.chunks:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            run(build, Path(folder), size, real, texts)
            for ef in args.ef:  # in a process that has not built it, as a run that goes on is
                run(search, Path(folder), size, real, queries, ef)


def run(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()


def drawn(real: np.ndarray, size: int) -> np.ndarray:
    """The first `size` vectors: real ones, then ones drawn around them."""
    random = np.random.default_rng(0)
    parts = [real[:size]]
    dimension = real.shape[1]
    while (left := size - sum(map(len, parts))) > 0:
        around = real[random.permutation(len(real))[:left]]
        noise = random.standard_normal(around.shape, dtype=np.float32)
        part = around + noise * np.sqrt((1 / COSINE**2 - 1) / dimension)
        parts.append((part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32))
    return np.concatenate(parts)


def build(folder: Path, size: int, real: np.ndarray, texts: list[str]) -> None:
    """Build a collection of `size` chunks."""
    vectors = drawn(real, size)
    start = time.perf_counter()
    collection = open_collection(folder, "benchmark", ef_search=100)
    for i in range(0, size, BATCH):
        rows = range(i, min(i + BATCH, size))
        collection.upsert(
            ids=[str(row) for row in rows],
            embeddings=vectors[i : i + BATCH],
            documents=[texts[row % len(texts)] for row in rows],
            metadatas=[{"document": str(row // 200), "position": row % 200} for row in rows],
        )
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{size:,} chunks built in {time.perf_counter() - start:.0f} s, {disk / 2**20:,.0f} MiB on disk", flush=True)


def search(folder: Path, size: int, real: np.ndarray, queries: np.ndarray, ef: int) -> None:
    """Search it, and compare with every vector."""
    vectors = drawn(real, size)
    best, exact_ms = [], []
    for query in queries:
        start = time.perf_counter()
        scores = vectors @ query
        top = np.argpartition(-scores, 100)[:100]
        best.append([str(row) for row in top[np.argsort(-scores[top])]])
        exact_ms.append(1000 * (time.perf_counter() - start))
    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    collection = open_collection(folder, "benchmark", ef_search=ef)
    collection.query(query_embeddings=[queries[0]], n_results=10, include=[])  # loads the graph
    loaded = time.perf_counter() - start
    memory = psutil.Process().memory_info().rss - before
    recall, ms = {}, {}
    for count in (10, 100):
        shares, took = [], []
        for query, top in zip(queries, best, strict=True):
            start = time.perf_counter()
            ids = collection.query(query_embeddings=[query], n_results=count, include=[])["ids"][0]
            took.append(1000 * (time.perf_counter() - start))
            shares.append(len({*ids} & {*top[:count]}) / count)
        recall[count], ms[count] = np.mean(shares), np.median(took)
    print(
        f"{size:,} | {ef} | {recall[10]:.3f} | {recall[100]:.3f} | {ms[10]:.1f} | {ms[100]:.1f} | "
        f"{np.median(exact_ms):.1f} | {loaded:.1f} | {memory / 2**20:,.0f} | {vectors.nbytes / 2**20:,.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
