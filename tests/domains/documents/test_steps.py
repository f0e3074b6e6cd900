"""The query step and the step that chooses passages: predictors like others, and without harm where a reply is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dspy
import pytest
from hashing_embedder import HashingEmbedder
from scripted import scripted_lm, scripted_resources
from test_retrieval import CONTRACTS
from test_search import Answer, labelled

from synth_dspy import RAG, recipes
from synth_dspy.core.config import Retrieval
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.retrieval import Retriever
from synth_dspy.domains.documents.steps import is_capable
from synth_dspy.evaluation.metrics import token_f1

QUESTION = "Are we covered at sea?"
WORDS = 200


@pytest.fixture
def retriever(tmp_path: Path, embedder: HashingEmbedder) -> Retriever:
    return Collection(tmp_path, CONTRACTS, embedder).retriever(Retrieval())


def program(retriever: Retriever, query: str, numbers: str, *, words: int = WORDS, **rag: Any) -> dspy.Module:
    """A program whose model answers the two steps so, and says which insurance it was shown.

    For `numbers` that are words, it chooses the passages that hold them.
    """

    def reply(prompt: str) -> str:
        if prompt.startswith("Question:"):
            return query
        if "\n[2]" in prompt:
            offered = re.findall(r"\[(\d+)\] (.*)", prompt)
            holding = [number for number, text in offered if re.search("[a-z]", numbers) and numbers in text]
            return ", ".join(holding) or numbers
        return "EUR 2,000,000" if "marine insurance" in prompt else "no idea"

    lm = scripted_lm(reply)
    made = RAG(Answer, **rag)(scripted_resources(lm, retriever=retriever, words=words))
    made.set_lm(lm)
    return made


def test_what_the_model_writes_is_searched_for(retriever: Retriever) -> None:
    query = "The Carrier shall maintain marine insurance for each voyage."
    with_step = program(retriever, query, "", words=80, select=False)
    assert with_step(question=QUESTION, document="ore").answer == "EUR 2,000,000"
    without = program(retriever, "never asked", "", words=80, select=False, rewrite=False)
    assert without(question=QUESTION, document="ore").answer == "no idea"


@pytest.mark.parametrize("query", ["word " * 200, " "])
def test_a_reply_that_is_no_query_leaves_the_search_as_it_was(retriever: Retriever, query: str) -> None:
    asked = {"question": QUESTION, "document": "ore"}
    passages = program(retriever, query, "", select=False)(**asked).passages
    assert passages == program(retriever, "", "", rewrite=False, select=False)(**asked).passages


def test_chosen_passages_are_what_the_answer_is_written_from(retriever: Retriever) -> None:
    question = "What insurance must the Carrier maintain for each voyage?"
    chosen = program(retriever, "", "marine insurance", rewrite=False)(question=question, document="ore")
    (passage,) = chosen.passages
    assert "marine insurance" in passage
    assert len(passage.split()) <= 60
    assert chosen.answer == "EUR 2,000,000"
    every = program(retriever, "", ", ".join(map(str, range(1, 30))), rewrite=False)(question=question, document="ore")
    assert sum(len(passage.split()) for passage in every.passages) <= WORDS


@pytest.mark.parametrize("numbers", ["0", "none of them", "99, 100", " "])
def test_a_reply_that_chooses_nothing_leaves_the_passages_as_they_were(retriever: Retriever, numbers: str) -> None:
    kept = program(retriever, "", numbers, rewrite=False)(question=QUESTION, document="ore").passages
    assert kept == program(retriever, "", "", rewrite=False, select=False)(question=QUESTION, document="ore").passages


def test_optimizers_see_them_and_they_are_saved(retriever: Retriever, tmp_path: Path) -> None:
    made = program(retriever, "marine insurance for each voyage", "marine insurance")
    assert [name for name, _ in made.named_predictors()] == ["rewrite.write", "select.choose", "answer"]
    rows = [labelled(str(n), name, QUESTION, "EUR 2,000,000") for n, name in enumerate(("ore", "tea", "ore"))]
    lm = made.predictors()[0].lm
    resources = scripted_resources(lm, retriever=retriever, words=WORDS)
    with dspy.context(lm=lm):
        tuned = recipes.Bootstrap(resources, token_f1, budget=4000).compile(made, trainset=rows, valset=rows)
    queries = [demo.query for demo in tuned.rewrite.write.demos if "query" in demo]
    assert queries[:1] == ["marine insurance for each voyage"]
    assert any("numbers" in demo for demo in tuned.select.choose.demos)

    tuned.set_lm(None)  # a scripted one cannot be saved
    loaded = program(retriever, "", "", rewrite=False, select=False)  # as for a model that is not capable
    loaded.load_state(tuned.dump_state(), allow_unsafe_lm_state=False)
    assert [name for name, _ in loaded.named_predictors()] == ["rewrite.write", "select.choose", "answer"]
    assert [demo.get("query") for demo in loaded.rewrite.write.demos][:1] == queries[:1]

    plain = program(retriever, "", "", rewrite=False, select=False)  # one of before there were such steps
    plain.set_lm(None)
    with_steps = program(retriever, "", "")
    with_steps.load_state(plain.dump_state(), allow_unsafe_lm_state=False)
    assert [name for name, _ in with_steps.named_predictors()] == ["answer"]


@pytest.mark.parametrize(
    ("model", "capable"),
    [
        ("embedded/smollm2-135m-instruct", False),
        ("embedded//models/Qwen2.5-7B-Instruct", True),
        ("embedded/some-folder", False),
        ("openai/gpt-4o-mini", True),
        ("bedrock/anthropic.claude-3-5-haiku-20241022-v1:0", True),
        ("ollama_chat/qwen2.5:0.5b", False),
        ("ollama_chat/llama3.2:3b", True),
        ("openai/SmolLM2-1.7B-Instruct", False),
    ],
)
def test_which_models_are_taken_to_be_capable(model: str, capable: bool) -> None:
    assert is_capable(model) is capable


@pytest.mark.parametrize(("steps", "names"), [("off", 1), ("on", 3), ("auto", 3)])
def test_the_run_says_so_where_the_task_does_not(retriever: Retriever, steps: str, names: int) -> None:
    resources = scripted_resources(scripted_lm(lambda prompt: ""), retriever=retriever, steps=steps)
    assert len(RAG(Answer)(resources).predictors()) == names
    assert len(RAG(Answer, rewrite=False, select=False)(resources).predictors()) == 1
