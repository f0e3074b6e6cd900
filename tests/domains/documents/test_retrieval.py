"""Retrieval: within the budget, in the document's order, with the opening, following the index."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder

from synth_dspy.core.config import Retrieval
from synth_dspy.core.knowledge import Document, Passage
from synth_dspy.domains.documents.index import Index
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.retrieval import Retriever

FILLER = (
    "The quality of every shipment is described in a certificate. The certificate names the batch, the plant and the "
    "chemist. Samples are kept for reference in a cool and dry place."
)


def contract(id: str, opening: str, law: str) -> Document:
    fillers = [f"{n}. Quality {n}\n{FILLER} Batch {id} {n} is no exception." for n in range(1, 30)]
    clauses = [
        f"30. Law\nThis Agreement shall be governed by the laws of {law}.",
        "31. Insurance\nThe Carrier shall maintain marine insurance of EUR 2,000,000 for each voyage.",
    ]
    return Document(id, id, "\n".join([opening, *fillers[:20], *clauses, *fillers[20:]]), f"{id}.txt")


CONTRACTS = [
    contract(
        "ore",
        "TABLE OF CONTENTS\nQuality 1\nLaw 30\nOFFTAKE AGREEMENT\nThis Offtake Agreement is made on 3 May 2021 by "
        "and between Norrberg Gruvor AB and Calder Smelting Limited.",
        "Sweden",
    ),
    contract(
        "tea",
        "TEA PURCHASE AGREEMENT\nThis Agreement is entered into as of 9 June 2019 by and between Assam Leaf Company "
        "and Kettle & Sons.",
        "Scotland",
    ),
]


@pytest.fixture
def retriever(tmp_path: Path, embedder: HashingEmbedder) -> Retriever:
    index = Index(tmp_path, embedder)
    index.update(CONTRACTS)
    return Retriever(index)


def words(passages: list[Passage]) -> int:
    return sum(len(passage.text.split()) for passage in passages)


def text(passages: list[Passage]) -> str:
    return "\n".join(passage.text for passage in passages)


@pytest.mark.parametrize("budget", [60, 120, 350])
def test_finds_the_clause_within_the_budget(retriever: Retriever, budget: int) -> None:
    passages = retriever.search("Which country's law governs the contract?", "ore", budget)
    assert "governed by the laws of Sweden" in text(passages)
    assert 0 < words(passages) <= budget
    assert {passage.document for passage in passages} == {"ore"}
    assert [p.position for p in passages] == sorted(p.position for p in passages)


def test_a_budget_smaller_than_any_chunk_is_kept(retriever: Retriever) -> None:
    assert words(retriever.search("Which law governs the contract?", "ore", 3)) <= 3


def test_opening_is_always_there(retriever: Retriever) -> None:
    passages = retriever.search("What insurance must the Carrier maintain?", "ore")
    assert "marine insurance" in text(passages)
    assert "Norrberg Gruvor AB" in text(passages)
    assert "Calder Smelting Limited" in text(retriever.search("Who sells?", "ore", 80))


def test_neighbours_are_put_together_without_overlap(retriever: Retriever) -> None:
    passages = retriever.search("Which country's law governs the contract?", "tea")
    chunks, _ = retriever.index.chunks("tea")
    positions = []
    for passage in passages:
        run = [chunk for chunk in chunks if chunk.position >= passage.position]
        taken = 0
        while "\n".join(chunk.text for chunk in run[:taken]) != passage.text:
            taken += 1
            assert taken <= len(run), "a passage is no run of chunks"
        positions.append(range(passage.position, passage.position + taken))
    assert all(a.stop < b.start for a, b in pairwise(positions))


def test_over_all_documents_best_first(retriever: Retriever) -> None:
    passages = retriever.search("Assam Leaf Company and Kettle", words=100)
    assert passages[0].document == "tea"
    assert "Assam Leaf" in passages[0].text
    assert words(passages) <= 100
    assert [p.score for p in passages] == sorted((p.score for p in passages), reverse=True)


def test_many_is_as_one_with_one_call_of_the_embedder(retriever: Retriever, embedder: HashingEmbedder) -> None:
    questions = ["Which law governs?", "What insurance is there?", "Which law governs?"]
    where = ["ore", None, "tea"]
    one = [retriever.search(question, document) for question, document in zip(questions, where, strict=True)]
    embedder.seen.clear()
    assert retriever.search_many(questions, where) == one
    assert embedder.seen.count("Which law governs?") == 1
    assert retriever.search_many([]) == []
    embedder.seen.clear()
    assert [retriever.search(question, document) for question, document in zip(questions, where, strict=True)] == one
    assert embedder.seen == []  # as every arm of a run asks it


def test_unknown_document_gives_nothing(retriever: Retriever) -> None:
    assert retriever.search("Which law governs?", "no such document") == []


def test_follows_updates(retriever: Retriever) -> None:
    question = "Which country's law governs the contract?"
    assert "Sweden" in text(retriever.search(question, "ore"))
    changed = CONTRACTS[0].text.replace("Sweden", "Norway")
    retriever.index.update([Document("ore", "ore", changed, "ore.txt")])
    assert "Norway" in text(retriever.search(question, "ore"))
    assert "Sweden" not in text(retriever.search(question, "ore"))
    assert retriever.search(question, "tea") == []


def test_wording_of_the_domain_can_be_replaced(tmp_path: Path, embedder: HashingEmbedder) -> None:
    index = Index(tmp_path / "other", embedder)
    index.update(CONTRACTS)
    plain = Retriever(index, wording=lambda question: "")
    led = Retriever(index, wording=lambda question: "marine insurance voyage")
    question = "Are we covered at sea?"
    assert "marine insurance" not in text(plain.search(question, "ore", 80))
    assert "marine insurance" in text(led.search(question, "ore", 80))


QUESTIONS = (
    "Which country's law governs the contract?",
    "What insurance must the Carrier maintain for each voyage?",
    "Who buys tea from Assam Leaf Company?",
    "Which certificate names the chemist of batch ore 7?",
)


@pytest.mark.parametrize("overlap", [0, 10])
def test_a_large_collection_is_searched_as_a_small_one_is(
    tmp_path: Path, embedder: HashingEmbedder, overlap: int
) -> None:
    """Comparing with every chunk, and scoring what Chroma's graph gives: the same scores where that misses none."""
    documents = [contract(f"c{n}", f"AGREEMENT {n}\nmade by and between A{n} and B{n}.", f"Land {n}") for n in range(8)]
    exact, graph = (
        Collection(tmp_path, documents, embedder).retriever(Retrieval(overlap=overlap, exact=bound, ef_search=400))
        for bound in (10_000, 0)
    )
    for question in (*QUESTIONS, "Which law governs the contract of A3 and B3?"):
        expected, found = exact.search(question), graph.search(question)
        # Contracts that differ in a number have clauses of the same score: which of them comes first is open. What
        # fills the last words of the budget comes from far down, where the graph does not look.
        assert [p.score for p in found[:5]] == pytest.approx([p.score for p in expected[:5]], abs=1e-3)
        assert found[0].text.split()[:2] == expected[0].text.split()[:2]


def test_what_neighbours_repeat_is_shown_and_counted_once(tmp_path: Path, embedder: HashingEmbedder) -> None:
    retriever = Collection(tmp_path, CONTRACTS, embedder).retriever(Retrieval(chunk_words=30, overlap=15))
    whole = " ".join(CONTRACTS[0].text.split())
    assert " ".join(retriever.text("ore").split()) == whole
    for budget in (60, 200):
        passages = retriever.search("Which country's law governs the contract?", "ore", budget)
        assert 0.5 * budget < words(passages) <= budget
        assert all(" ".join(passage.text.split()) in whole for passage in passages)


def test_at_most_so_many_chunks(retriever: Retriever) -> None:
    few = retriever.with_settings(Retrieval(chunks=2))
    assert 0 < words(few.search("Which country's law governs the contract?", "ore")) <= 2 * 100
    assert words(few.search("Which law?", "ore")) < words(retriever.search("Which law?", "ore"))


def test_words_or_meaning_alone(retriever: Retriever) -> None:
    question = "marine insurance"
    by_words = retriever.with_settings(Retrieval(lexical=1.0)).search(question, words=60)
    assert "marine insurance" in text(by_words)
    by_meaning = retriever.with_settings(Retrieval(lexical=0.0)).search(question, words=60)
    assert [p.score for p in by_meaning] != [p.score for p in by_words]
