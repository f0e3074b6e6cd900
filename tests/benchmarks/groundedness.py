"""Fits what says without a model whether passages support a statement, and measures it on groups outside the fit.

    python tests/benchmarks/groundedness.py ../shared/data             fit on four fifths and measure, five times
    python tests/benchmarks/groundedness.py ../shared/data --write     then fit on all, and write the parameters
    python tests/benchmarks/groundedness.py ../shared/data --judge embedded/smollm2-135m-instruct   measure a model

What people said: WiCE's claims with the sentences that support them (Kamoi et al., 2023); HaluEval's verdicts on chat
answers, which have no passages (Li et al., 2023). What follows from what experts marked: CUAD's clauses, and passages
with and without them (Hendrycks et al., 2021).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from synth_dspy.core.text import one_line
from synth_dspy.domains.documents.chunks import chunk_document
from synth_dspy.domains.documents.cuad import read_cuad
from synth_dspy.domains.documents.lexical import BM25
from synth_dspy.evaluation.groundedness.fit import LabelledStatement, fit_and_measure, fit_part
from synth_dspy.evaluation.groundedness.judges import GroundednessJudge
from synth_dspy.evaluation.groundedness.parameters import PARAMETERS
from synth_dspy.evaluation.reference_judge.calibration import agreement
from synth_dspy.models import roles

WORDS = 350
EMBEDDER = "embedded/all-minilm-l6-v2"


def wice(folder: Path, seed: int = 0) -> Iterator[LabelledStatement]:
    """Claims with all their evidence, with as much of it as a program is given, and without what supports them."""
    rng = random.Random(seed)
    with (folder / "wice" / "claims.jsonl").open(encoding="utf-8") as file:
        claims = [json.loads(line) for line in file]
    for row in claims:
        evidence, group = row["evidence"], row["meta"]["claim_title"]
        label = int(row["label"] == "supported")

        def made(passage: str, label: int, kind: str, row: dict[str, Any] = row, group: str = group) -> Any:
            return LabelledStatement(row["claim"], "", (passage,), label, group, kind)

        yield made("\n".join(evidence), label, "wice")
        marked = [group for group in row["supporting_sentences"] if group]
        chosen = rng.choice(marked) if marked else []
        yield made("\n".join(_around(evidence, chosen, rng)), label, "wice, 350 words")
        every = {i for group in row["supporting_sentences"] for i in group}
        if marked and len(evidence) > len(every) + 3:
            rest = [sentence for i, sentence in enumerate(evidence) if i not in every]
            near = [max(0, min(i, len(rest) - 1)) for i in sorted(every)[:2]]
            yield made("\n".join(_around(rest, near, rng)), 0, "wice, support removed")


def _around(sentences: Sequence[str], chosen: Sequence[int], rng: random.Random, words: int = WORDS) -> list[str]:
    """The chosen sentences with others beside them and elsewhere, in their order, up to so many words."""
    kept, size = set(chosen), sum(len(sentences[i].split()) for i in chosen)
    near = [i + step for step in (1, -1, 2, -2) for i in chosen]
    far = list(range(len(sentences)))
    rng.shuffle(far)
    for i in (*near, *far):
        if 0 <= i < len(sentences) and i not in kept and size + len(sentences[i].split()) <= words:
            kept.add(i)
            size += len(sentences[i].split())
    return [sentences[i] for i in sorted(kept)]


def cuad(folder: Path, contracts: int, seed: int = 0) -> tuple[list[LabelledStatement], list[LabelledStatement]]:
    """Statements made of CUAD's answers with passages (grounded or not), and references with retrieved passages.

    A reference is answerable from passages that hold a span that experts marked for it.
    """
    documents, rows = read_cuad(folder / "cuad", limit=contracts, yes_no=0.0, unanswerable=0.0)
    texts = {document.id: document for document in documents}
    chunks = {id: [chunk.text for chunk in chunk_document(document, 60)] for id, document in texts.items()}
    indexes = {id: BM25(found) for id, found in chunks.items()}
    by_category = defaultdict(list)
    for row in rows:
        by_category[row["category"]].append(row)
    rng = random.Random(seed)
    grounded: list[LabelledStatement] = []
    answerable: list[LabelledStatement] = []
    for row in rows:
        if not row["references"]:
            continue
        text, own = texts[row["document"]].text, chunks[row["document"]]
        scores = indexes[row["document"]].scores(row["question"])
        order = sorted(range(len(own)), key=lambda i: -scores[i])
        top = sorted(order[: rng.choice((1, 2, 4, 6))])
        passages = tuple(own[i] for i in top)
        held = any(_squeeze(span) in _squeeze("\n".join(passages)) for span in row["spans"])
        reference = rng.choice(row["references"])
        answerable.append(
            LabelledStatement(reference, row["question"], passages, int(held), row["document"], "cuad, retrieved")
        )
        grounded += _statements(row, text, own, passages, by_category[row["category"]], rng)
    return grounded, answerable


def _statements(
    row: dict[str, Any],
    text: str,
    chunks: Sequence[str],
    retrieved: Sequence[str],
    others: Sequence[dict[str, Any]],
    rng: random.Random,
) -> Iterator[LabelledStatement]:
    span = max(row["spans"], key=len)
    at = text.find(span)
    if at < 0:
        return
    before, after = text[:at].split(), text[at + len(span) :].split()
    room = max(0, WORDS - len(span.split()))
    left = rng.randint(0, room)
    window = (" ".join([*before[max(0, len(before) - left) :], *span.split(), *after[: room - left]]),)
    answer = row["references"][0]

    def made(statement: str, passages: Sequence[str], label: int, kind: str) -> LabelledStatement:
        return LabelledStatement(statement, row["question"], tuple(passages), label, row["document"], f"cuad, {kind}")

    if _squeeze(answer) in _squeeze(window[0]):
        yield made(answer, window, 1, "stated")
        said = rng.choice(SENTENCES).format(x=answer.rstrip("."))
        yield made(said, window, 1, "stated in a sentence")
        words = answer.split()
        if len(words) > 16:
            yield made(" ".join(words[: rng.randint(8, len(words) - 1)]), window, 1, "stated in part")
        if (other := _changed(answer, window[0], rng)) is not None:
            yield made(other, window, 0, "changed")
    stranger = rng.choice(others)["references"]
    if stranger and _squeeze(stranger[0]) not in _squeeze(window[0]) and stranger[0] != answer:
        yield made(stranger[0], window, 0, "of another contract")
        said = rng.choice(SENTENCES).format(x=stranger[0].rstrip("."))
        yield made(said, window, 0, "of another contract, in a sentence")
        if len(answer.split()) > 8:
            both = f"{answer.rstrip('.')}. {rng.choice(ADDED).format(x=stranger[0])}"
            yield made(both, window, 0, "with a fact added")
    far = [chunk for chunk in chunks if _squeeze(answer) not in _squeeze(chunk)]
    if len(far) > 5:
        start = rng.randrange(len(far) - 5)
        yield made(answer, far[start : start + 5], 0, "stated elsewhere")
    if _squeeze(answer) not in _squeeze("\n".join(retrieved)) and len(answer.split()) > 4:
        yield made(answer, retrieved, 0, "not retrieved")


SENTENCES = (
    "The answer is {x}.", "It is {x}.", "According to the contract, {x}.", "{x}, as the agreement says.",
    "The contract states: {x}", "Under the agreement it is {x}.", "{x} is what the document provides.",
)  # fmt: skip
ADDED = ("Moreover, {x}", "In addition, {x}", "{x}", "It also says: {x}")
_NUMBER = re.compile(r"\d+")
_OTHERS = (("shall", "shall not"), ("may", "may not"), ("will", "will not"), ("shall not", "shall"), ("not", ""))


def _changed(answer: str, passage: str, rng: random.Random) -> str | None:
    """The answer with another number, or with a negation more or fewer; None where it has neither."""
    number = rng.choice(found) if (found := list(_NUMBER.finditer(answer))) else None
    if number is not None and rng.random() < 0.7:
        other = str(int(number[0]) + rng.choice((1, 2, 5, 10, 100)))
        if not re.search(rf"\b{other}\b", passage):
            return answer[: number.start()] + other + answer[number.end() :]
    for was, other in rng.sample(_OTHERS, len(_OTHERS)):
        if re.search(rf"\b{was}\b(?! not)", answer):
            return re.sub(rf"\b{was}\b(?! not) ?", f"{other} " if other else "", answer, count=1)
    return None


def halueval(folder: Path) -> list[LabelledStatement]:
    """Chat answers, of which people said whether something was made up in them; all there is to read is the request."""
    with (folder / "halueval" / "halueval.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        LabelledStatement(
            row["chatgpt_response"], "", (row["user_query"],), int(row["hallucination"] == "no"), row["ID"], "halueval"
        )
        for row in rows
        if row["chatgpt_response"].strip() and row["user_query"].strip()
    ]


def _squeeze(text: str) -> str:
    return one_line(text).lower()


def measure_model(model: str, claims: Sequence[LabelledStatement], most: int = 100) -> None:
    """Print how a judge model, and the shipped features out of the fit, agree with people on the same claims."""
    lm = roles.lm_for(model, role="judge")
    chosen = [row for row in claims if row.kind == "wice, 350 words"][:most]
    rows = [{"question": "", "prediction": r.text, "passages": r.passages, "abstained": False} for r in chosen]
    began = time.perf_counter()
    scores = GroundednessJudge(lm).score_many(rows)
    seconds = time.perf_counter() - began
    print(f"{model}: {agreement(scores, [row.label for row in chosen])}")
    print(f"{sum(scores):.0f} of {len(scores)} supported, {len(scores) / seconds:.1f} claims a second")


def main() -> None:
    """Fit, measure, print, and write where that is wanted."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--contracts", type=int, default=150)
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--judge", help="a model to ask instead, about 100 claims")
    given = arguments.parse_args()
    if given.judge:
        measure_model(given.judge, list(wice(given.data)))
        return
    embedder = roles.token_embedder(EMBEDDER)
    grounded, answerable = cuad(given.data, given.contracts)
    claims = list(wice(given.data))
    began = time.perf_counter()
    fitted = fit_and_measure([*claims, *grounded], [*claims, *answerable], embedder)
    rows = 2 * len(claims) + len(grounded) + len(answerable)
    print(f"{rows} rows in {time.perf_counter() - began:.0f} s")
    for name, part in (("grounded", fitted.grounded), ("retrieval", fitted.retrieval)):
        for kind, figures in part.agreement["by_kind"].items():
            print(f"{name:10} {kind:36} " + ", ".join(f"{key} {value}" for key, value in figures.items()))
    chat = fit_part(halueval(given.data), embedder, "halueval").agreement["by_kind"]["halueval"]
    print("without passages, halueval: " + ", ".join(f"{key} {value}" for key, value in chat.items()))
    if given.write:
        fitted.save(PARAMETERS)
        print(f"written: {PARAMETERS}, {PARAMETERS.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
