"""`--search retrieval` as a run: an arm like others, whose program searches as it was scored, also when loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dspy
import pytest
from embedders import WordEmbedder
from servers import Behaviour, Server, serving

import synth_dspy
from synth_dspy import RAG, Documents, SetupError, Task
from synth_dspy.core import run as runs
from synth_dspy.core.config import CompileConfig, to_toml
from synth_dspy.domains.documents.search import retriever_of
from synth_dspy.pipeline import experiment, resources
from synth_dspy.pipeline.trust import Caller, restrict_config

pytest.importorskip("optuna")


class Answer(dspy.Signature):
    """Answer from the pages."""

    passages: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(experiment, "open_embedder", lambda config: WordEmbedder())
    monkeypatch.setattr(resources, "open_embedder", lambda config: WordEmbedder())
    with serving(Behaviour(reply="in ten days")) as running:
        yield running


def pages(folder: Path) -> Task:
    (folder / "help").mkdir()
    rows = []
    for n in range(8):
        filler = " ".join(f"Page {n} has more to say about matter {m} of its own." for m in range(40))
        text = f"{filler} A refund of order {n} comes within {n + 2} days of its return. {filler}"
        (folder / "help" / f"page-{n}.md").write_text(text, encoding="utf-8")
        rows.append({"question": "When does a refund come?", "answer": f"{n + 2} days", "document": f"page-{n}"})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Task(program=RAG(Answer), source=Documents(folder / "help", labelled="questions.jsonl"))


def test_the_search_is_an_arm(server: Server, tmp_path: Path) -> None:
    task = pages(tmp_path)
    run = synth_dspy.compile_task(
        task,
        search="retrieval",
        arms=["search"],
        quick=True,
        models={"student": "openai/mock", "teacher": "openai/mock", "api_base": server.url},
        synthesis={"candidates": 0},
        retrieval={"steps": "off", "chunks": 1, "lexical": 0.0},
        workspace=tmp_path,
    )
    assert [arm.name for arm in run.results.arms] == ["rag", "search"]
    about = json.loads((run.folder / "programs" / "search" / "about.json").read_text())
    own = json.loads((run.folder / "programs" / "rag" / "about.json").read_text())
    assert "retrieval" not in own
    searched = retriever_of(synth_dspy.load(run.folder / "programs" / "search", program=task))
    assert searched is not None
    assert {name: getattr(searched.settings, name) for name in about["retrieval"]} == about["retrieval"]
    assert "labelled questions about" in run.report.read_text()

    about["retrieval"] = {"chroma": "http://203.0.113.7:8000"}
    (run.folder / "programs" / "search" / "about.json").write_text(json.dumps(about))
    with pytest.raises(SetupError, match="holds other settings than chunk_words"):
        synth_dspy.load(run.folder / "programs" / "search", program=task, api_base=server.url)


def test_there_must_be_documents_to_search(server: Server, tmp_path: Path) -> None:
    rows = [dspy.Example(question=f"What is {n}?", answer="card").with_inputs("question") for n in range(20)]
    with pytest.raises(SetupError, match="this task's source has none"):
        synth_dspy.compile_task(
            program=dspy.Predict("question -> answer"),
            trainset=rows,
            search="retrieval",
            models={"student": "openai/mock", "teacher": "openai/mock", "api_base": server.url},
            workspace=tmp_path,
        )


@pytest.mark.parametrize("own", [True, False])
def test_nobody_s_documents_are_sent_where_somebody_else_says(own: bool, tmp_path: Path) -> None:
    config = CompileConfig.model_validate({"retrieval": {"chroma": "http://203.0.113.7:8000", "overlap": 10}})
    followed = restrict_config(config, Caller(trust=True), own=own, what="The run", workspace=tmp_path, folder=tmp_path)
    assert followed.retrieval.chroma == ("http://203.0.113.7:8000" if own else None)
    assert followed.retrieval.overlap == 10


@pytest.mark.parametrize(("text", "steps"), [("seed = 1\n", "off"), (to_toml(CompileConfig(seed=1)), "auto")])
def test_a_run_of_before_the_steps_goes_on_without(text: str, steps: str, tmp_path: Path) -> None:
    folder = tmp_path / "task" / "run-1"
    folder.mkdir(parents=True)
    (folder / runs.CONFIG).write_text(text, encoding="utf-8")
    _, config = runs.resume(tmp_path, "task", "run-1", CompileConfig)
    assert (config.seed, config.retrieval.steps) == (1, steps)
