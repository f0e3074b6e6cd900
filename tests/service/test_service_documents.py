"""A running service answers from the documents as a cycle found them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from embedders import WordEmbedder
from servers import Behaviour, serving
from service_workspace import workspace_with_run

from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import SetupError
from synth_dspy.core.knowledge import Document
from synth_dspy.domains.documents.opening import Collection
from synth_dspy.domains.documents.rag import RetrieveAndAnswer
from synth_dspy.loop.records import Transition, Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store, now
from synth_dspy.pipeline.trust import Caller
from synth_dspy.service.programs import Programs
from synth_dspy.service.running import OpenHere
from synth_dspy.service.worker import Worker
from synth_dspy.training.recipes.route import Routed, Router


def test_a_version_is_opened_anew_where_a_cycle_found_other_documents(registry: Registry) -> None:
    opened: list[str] = []
    broken = False

    def open_version(version: Version) -> str:
        if broken:
            raise SetupError("the index is being updated")
        opened.append(version.id)
        return f"{version.id} for the {len(opened)}. time"

    def cycle(name: str, **changes: list[str]) -> None:
        registry.store.add(Transition(name, "opened", "indexed", now(), "loop", "read", changes))
        programs.refresh()

    programs = Programs(registry, open_version)  # type: ignore[arg-type]
    cycle("c1", added=[], changed=[])
    assert opened == ["v1"]
    cycle("c2", changed=["lease"])
    programs.refresh()
    assert (opened, programs.champion.program) == (["v1", "v1"], "v1 for the 2. time")
    broken = True
    cycle("c3", removed=["lease"])
    assert programs.champion.program == "v1 for the 2. time"  # goes on, and says why
    assert "the index is being updated" in (programs.problem or "")


def test_a_worker_opens_a_version_anew_while_it_answers(tmp_path: Path) -> None:
    with serving(Behaviour(reply='{"answer": "one"}')) as server:
        run = workspace_with_run(tmp_path / "place", server.url)
        registry = Registry(Store.open(tmp_path / "production.sqlite", "notes"))
        version = registry.register(run, "first")
        worker = Worker(Caller(), 2)
        try:
            first, again = worker.open(version), worker.open(version)
            for each in (first, again):
                assert each.ask({"question": "Why?"}).result(30).status == 200
            (run / "programs" / "first" / "program.json").unlink()
            with pytest.raises(SetupError):
                worker.open(version)
            assert again.ask({"question": "Why not?"}).result(30).status == 200
        finally:
            worker.close()


class Words(WordEmbedder):
    dimension = WordEmbedder().embed(["a"]).shape[1]


def documents(count: int) -> list[Document]:
    return [Document(f"d{n}", f"d{n}", f"This paper is about topic{n} and thing{n}. " * 3, "") for n in range(count)]


UPDATES = "import sys; from pathlib import Path; import test_service_documents as t; t.update(Path(sys.argv[1]))"


def update(folder: Path) -> None:
    Collection(folder, documents(40), Words()).retriever(Retrieval(exact=0))


def test_an_index_that_another_process_updated_is_searched_as_it_is_now(tmp_path: Path) -> None:
    here = Path(__file__).parent
    paths = {"PYTHONPATH": ":".join([str(here), str(here.parent), *sys.path])}
    settings = Retrieval(exact=0)  # by Chroma's graph, which it keeps in memory
    before = Collection(tmp_path, documents(20), Words()).retriever(settings)
    assert before.search("topic33 thing33")[0].document != "d33"
    subprocess.run([sys.executable, "-c", UPDATES, str(tmp_path)], check=True, env=paths, timeout=120)
    after = Collection(tmp_path, documents(40), Words()).retriever(settings)
    assert after.search("topic33 thing33")[0].document == "d33"
    assert before.search("topic3 thing3")[0].document == "d3"


def test_a_router_over_programs_that_search_documents_is_asked_as_one_of_them(tmp_path: Path) -> None:
    resources: Any = SimpleNamespace(
        retriever=Collection(tmp_path, documents(3), Words()).retriever(Retrieval()), words=50, noun="paper", abstain=""
    )
    programs = {
        name: RetrieveAndAnswer(dspy.Signature("passages, question -> answer"), resources, dspy.ChatAdapter())
        for name in ("sft", "dpo")
    }
    router = Routed(programs, Router(list(programs), ["Why?"], [[1.0, 0.0]], Words()))
    lm = dspy.utils.DummyLM([{"answer": "one"}] * 2)
    with ThreadPoolExecutor(1) as threads, dspy.context(lm=lm):
        alone, routed = OpenHere(programs["sft"], threads), OpenHere(router, threads)
        assert routed.shape == alone.shape
        assert routed.shape.suggestions == {"document": ("d0", "d1", "d2")}
        answers = [each.ask_now({"question": "What is topic1?", "document": "d1"}) for each in (alone, routed)]
        assert [(each.status, each.answer, each.inputs) for each in answers] == [
            (200, "one", {"question": "What is topic1?", "document": "d1"})
        ] * 2
