"""Retrieval: within the budget, in the document's order, with the opening, following the index."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hashing_embedder import HashingEmbedder

from synth_dspy.corpus.documents import Document
from synth_dspy.corpus.index import Index
from synth_dspy.corpus.retrieval import Passage, Retriever

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
