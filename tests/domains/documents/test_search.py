"""The arm that tunes retrieval: it finds what finds more, asks no model, goes on, and its program is saved as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from hashing_embedder import HashingEmbedder
from scripted import scripted_lm, scripted_resources
from test_retrieval import CONTRACTS

from synth_dspy import RAG, document_tools
from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import ArmError
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.search import SearchRetrieval, retriever_of
from synth_dspy.evaluation.metrics import retrieval_recall, token_f1

pytest.importorskip("optuna")


class Answer(dspy.Signature):
    """Answer from the passages."""

    passages: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def labelled(id: str, document: str, question: str, span: str, **more: Any) -> dspy.Example:
    fields = {"id": id, "group": document, "origin": "gold", "answer": span, "references": [span], "spans": [span]}
    return dspy.Example(**{**fields, "document": document, "question": question, **more}).with_inputs(
        "question", "document"
    )


ASKED = [
    labelled("1", "ore", "Which country's law governs the contract?", "governed by the laws of Sweden"),
    labelled("2", "tea", "Which country's law governs the contract?", "governed by the laws of Scotland"),
    labelled("3", "ore", "What marine insurance must be maintained for a voyage?", "EUR 2,000,000"),
    labelled("4", "tea", "What insurance must the Carrier maintain?", "marine insurance of EUR 2,000,000", spans=[]),
    labelled("5", "ore", "What is never asked?", "nowhere", origin="synthetic"),
    labelled("6", "ore", "What colour?", "a word that no contract has", spans=[]),
]
PROMPTS: list[str] = []  # of the last recipe's model
POOR = Retrieval(chunk_words=25, chunks=1, wording=0.0)


def made(folder: Path, embedder: HashingEmbedder, settings: Retrieval = POOR, **more: Any) -> SearchRetrieval:
    retriever = Collection(folder, CONTRACTS, embedder).retriever(settings)

    def reply(prompt: str) -> str:
        PROMPTS.append(prompt)
        return "Sweden" if "laws of Sweden" in prompt else "no idea"

    PROMPTS.clear()
    lm = scripted_lm(reply)
    resources = scripted_resources(lm, retriever=retriever, words=120, steps="off")
    return SearchRetrieval(resources, token_f1, **{"trials": 24, **more})


def compiled(recipe: SearchRetrieval) -> tuple[dspy.Module, dspy.Module]:
    program = RAG(Answer)(recipe.resources)
    program.set_lm(recipe.resources.student)
    return program, recipe.compile(program, trainset=ASKED[2:], valset=ASKED[:2])


def recall(program: dspy.Module) -> float:
    return sum(retrieval_recall(example, program(**example.inputs())) for example in ASKED[:3]) / 3


def test_what_is_found_finds_more_and_no_model_is_asked(tmp_path: Path, embedder: HashingEmbedder) -> None:
    recipe = made(tmp_path, embedder)
    program, searched = compiled(recipe)
    assert PROMPTS == []
    assert recall(program) < recall(searched) == 1.0
    assert retriever_of(program).settings == POOR  # the other arms search as before
    settings = retriever_of(searched).settings
    assert settings != POOR
    assert "4 labelled questions about 2 documents" in recipe.description
    assert f"--retrieval.lexical {settings.lexical}" in recipe.description


def test_a_search_that_was_done_embeds_nothing_and_ends_the_same(tmp_path: Path, embedder: HashingEmbedder) -> None:
    first = retriever_of(compiled(made(tmp_path, embedder))[1])
    (notes,) = (tmp_path / "searches").iterdir()
    whole = notes.read_text()
    embedder.seen.clear()
    again = retriever_of(compiled(made(tmp_path, embedder))[1])
    assert again.settings == first.settings
    assert embedder.seen == []
    assert notes.read_text() == whole
    lines = whole.splitlines(keepends=True)
    notes.write_text("".join(lines[:5]) + lines[5][:20])  # killed at its sixth
    assert retriever_of(compiled(made(tmp_path, embedder))[1]).settings == first.settings


def test_the_task_s_objective_may_decide(tmp_path: Path, embedder: HashingEmbedder) -> None:
    recipe = made(tmp_path, embedder, finalists=2)
    _, searched = compiled(recipe)
    assert PROMPTS
    assert searched(question=ASKED[0].question, document="ore").answer == "Sweden"


def test_settings_that_find_most_already_stay(tmp_path: Path, embedder: HashingEmbedder) -> None:
    _, searched = compiled(made(tmp_path, embedder, Retrieval(), trials=2))
    assert recall(searched) == 1.0


def test_what_cannot_be_searched_for(tmp_path: Path, embedder: HashingEmbedder) -> None:
    recipe = made(tmp_path, embedder)
    program = RAG(Answer)(recipe.resources)
    with pytest.raises(ArmError, match="label some, or give their spans"):
        recipe.compile(program, trainset=ASKED[4:], valset=[])
    with pytest.raises(ArmError, match="holds the run's retriever"):
        recipe.compile(dspy.Predict(Answer), trainset=ASKED, valset=[])
    bare = SearchRetrieval(scripted_resources(recipe.resources.student, embedder=WordEmbedder()), token_f1)
    with pytest.raises(ArmError, match="this one has none"):
        bare.compile(program, trainset=ASKED, valset=[])


def test_it_is_among_the_tools_of_documents() -> None:
    assert document_tools.SearchRetrieval is SearchRetrieval
