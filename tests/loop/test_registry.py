"""Versions and aliases, in SQLite and, where it is installed, PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from synth_dspy.cli.promote import register_arm
from synth_dspy.core.errors import SetupError
from synth_dspy.loop.records import Feedback, Request, Transition, Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store, now


@pytest.fixture
def registry(where: str) -> Iterator[Registry]:
    store = Store.open(where, "contract_qa")
    yield Registry(store)
    store.close()


def finished_run(folder: Path, *arms: str) -> Path:
    for arm in arms:
        program = folder / "programs" / arm
        program.mkdir(parents=True)
        (program / "program.json").write_text(json.dumps({"arm": arm}))
        weights = {"weights": "adapters/0123456789abcdef/model.gguf"} if arm == "sft" else {}
        (program / "about.json").write_text(json.dumps({"task": "contract_qa", "arm": arm, **weights}))
    (folder / "datasets").mkdir()
    (folder / "datasets" / "train.jsonl").write_text("{}\n")
    return folder


def test_a_version_says_what_it_was_made_of(registry: Registry, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", "rag", "sft")
    first, second = registry.register(run, "rag"), registry.register(run, "sft", seeds={"run": 7})
    assert (first.id, second.id) == ("v1", "v2")
    assert second.weights == "0123456789abcdef"
    assert first.weights == ""
    assert set(second.data) == {"train"}
    assert registry.register(run, "rag") == first
    with pytest.raises(SetupError, match="has no program of 'dpo'; it has rag, sft"):
        registry.register(run, "dpo")


def test_promotion_and_rollback_move_aliases(registry: Registry, tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run", "rag", "sft")
    registry.register(run, "rag")
    registry.promote("v1", "person:ann", "the first")
    assert registry.register(run, "sft").parent == "v1"
    registry.challenge("v2", "loop", "trained on new feedback")
    registry.promote("challenger", "loop", "better", {"difference": 0.1})
    assert [registry.alias(alias) for alias in ("champion", "previous", "challenger")] == ["v2", "v1", None]
    with pytest.raises(SetupError, match="v2 is the champion of contract_qa already"):
        registry.promote("v2", "person:ann", "again")
    registry.roll_back("watch", "scores fell")
    assert [registry.alias(alias) for alias in ("champion", "previous")] == ["v1", None]
    with pytest.raises(
        SetupError, match=r"no previous champion to return to: v2 was rolled back at .* by watch; to have"
    ):
        registry.roll_back("person:ann", "again")
    lineage = registry.lineage("v2")
    assert [each.id for each in lineage.ancestors] == ["v1"]
    assert [move.reason for move in lineage.moves if move.alias == "champion"] == ["better", "scores fell"]
    assert lineage.moves[-1].by == "watch"


def test_each_rollback_goes_further_back_and_none_returns_to_what_was_left(registry: Registry, tmp_path: Path) -> None:
    def after_rollback() -> list[str | None]:
        registry.roll_back("person:ann", "worse")
        return [registry.alias(alias) for alias in ("champion", "previous")]

    run = finished_run(tmp_path / "run", "rag", "sft", "dpo")
    for version in [registry.register(run, arm).id for arm in ("rag", "sft", "dpo")]:
        registry.promote(version, "person:ann", "better")
    assert after_rollback() == ["v2", "v1"]
    assert after_rollback() == ["v1", None]
    for version in ("v2", "v1", "v3"):  # v2 and v1 in another order
        registry.promote(version, "person:ann", "by name")
    assert after_rollback() == ["v1", "v2"]
    assert after_rollback() == ["v2", None]


def test_errors_name_what_there_is(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no version yet"):
        registry.version("v1")
    registry.register(finished_run(tmp_path / "run", "rag"), "rag")
    with pytest.raises(SetupError, match=r"there are none yet\. If it was made with --runs, give the same --runs here"):
        register_arm(registry, tmp_path / "runs" / "contract_qa", "20260101-120000-ab12:sft")
    with pytest.raises(SetupError, match="there are v1"):
        registry.version("v9")
    with pytest.raises(SetupError, match="has no champion; its versions are v1"):
        registry.version("champion")
    with pytest.raises(SetupError, match="no previous champion"):
        registry.roll_back("person:ann", "why not")
    with pytest.raises(SetupError, match=r"could not be opened|is needed for this store"):
        Store.open("postgresql+psycopg://nobody:secret@127.0.0.1:9/none", "contract_qa")


def test_registering_at_once_gives_different_versions(tmp_path: Path, where: str) -> None:
    run = finished_run(tmp_path / "run", *"abcdefgh")

    def register(arm: str) -> Version:
        return Registry(Store.open(where, "contract_qa")).register(run, arm)

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(register, "abcdefgh"))
    assert sorted(version.id for version in versions) == [f"v{n}" for n in range(1, 9)]


def test_one_of_two_processes_makes_a_transition(where: str) -> None:
    stores = [Store.open(where, "contract_qa") for _ in range(2)]
    assert all(store.read(Transition, cycle="c1") == [] for store in stores)
    first = Transition("c1", "opened", "indexed", now(), "loop", "documents changed", number=1)
    assert [store.add(first) for store in stores] == [True, False]
    assert len(stores[1].read(Transition, cycle="c1")) == 1


def request(store: Store, name: str, person: str) -> Request:
    made = Request(name, now(), "v1", "champion", {"question": "?"}, "yes", False, (), 1, 1, 0.1, person=person)
    assert store.add(made)
    return made


def test_a_person_s_requests_and_feedback_can_be_deleted(registry: Registry, tmp_path: Path) -> None:
    other = registry.register(finished_run(tmp_path / "other", "rag"), "rag")
    run = finished_run(tmp_path / "run", "rag")
    (run / "datasets" / "feedback.jsonl").write_text('{"feedback": ["f1", "f3"]}\n{"feedback": ["f3"]}\n')
    (run / "datasets" / "documents.jsonl").write_text('{"id": "lease", "sha256": "0f"}\n')
    version = registry.register(run, "rag", seeds={"run": 3})
    store = registry.store
    for name, person in (("r1", "ann"), ("r2", "bob")):
        request(store, name, person)
    store.add(Feedback("f1", now(), "r1", "thumb", True, rater="bob"))
    store.add(Feedback("f2", now(), "r2", "correction", "no", rater="ann"))
    store.add(Feedback("f3", now(), "r2", "thumb", False, rater="bob"))
    lineage = registry.lineage(version.id)
    assert [each.id for each in lineage.feedback] == ["f1", "f3"]
    assert (lineage.rows, lineage.documents) == ({"feedback": 2, "train": 1}, {"lease": "0f"})
    assert (lineage.version.seeds, lineage.forgotten) == ({"run": 3}, ())
    deletion = store.delete("asked to", "person:operator", person="ann")
    assert (deletion.requests, set(deletion.feedback)) == (("r1",), {"f1", "f2"})
    assert [each.id for each in store.read(Request)] == ["r2"]
    assert [each.id for each in store.read(Feedback)] == ["f3"]
    lineage = registry.lineage(version.id)
    assert ([each.id for each in lineage.feedback], lineage.forgotten) == (["f3"], (deletion,))
    assert registry.lineage(other.id).forgotten == ()  # which learned from none of it


def test_old_requests_are_forgotten_but_those_with_feedback(registry: Registry) -> None:
    store = registry.store
    request(store, "r1", "ann")
    request(store, "r2", "ann")
    store.add(Feedback("f1", now(), "r1", "score", 4))
    assert store.forget(now() + timedelta(days=1)) == 1
    assert [each.id for each in store.read(Request)] == ["r1"]
    assert store.read(Request, last=5)[0].inputs == {"question": "?"}


def test_the_better_of_two_answers_is_kept_and_goes_with_either_of_them(registry: Registry) -> None:
    store = registry.store
    for name in ("r1", "r2", "r3", "r4"):
        request(store, name, "ann")
    store.add(Feedback("f1", now(), "r1", "better", "r2"))
    store.add(Feedback("f2", now(), "r3", "comment", "r4"))  # only mentions it
    assert store.forget(now() + timedelta(days=1)) == 1
    assert [each.id for each in store.read(Request)] == ["r1", "r2", "r3"]
    deletion = store.delete("asked to", "person:operator", request="r2")
    assert (deletion.requests, deletion.feedback) == (("r2",), ("f1",))
    assert [each.id for each in store.read(Feedback)] == ["f2"]
