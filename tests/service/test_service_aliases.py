"""The service follows the aliases without a restart and without losing a request."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from served import Program, Serve

from synth_dspy.core.errors import SetupError
from synth_dspy.loop.records import Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store
from synth_dspy.service import programs as following
from synth_dspy.service.running import OpenHere


def slowly(question: str) -> str:
    time.sleep(0.05)
    return f"to {question}"


def wait_for_champion(service: object, version: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while service.client.get("/health").json()["champion"] != version:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline, f"{version} does not answer"
        time.sleep(0.05)


def test_the_champion_changes_under_load_and_no_request_fails(serve: Serve, registry: Registry) -> None:
    programs = {name: Program(name, slowly) for name in ("first", "second")}
    stop = threading.Event()
    with serve(programs) as service, ThreadPoolExecutor(16) as pool:

        def ask(worker: int) -> list[tuple[str, str]]:
            answers = []
            while not stop.is_set():
                answer = service.answer(f"{worker}-{len(answers)}")
                assert answer["answer"] == f"to {worker}-{len(answers)}"
                answers.append((answer["request"], answer["version"]))
            return answers

        asking = [pool.submit(ask, worker) for worker in range(16)]
        time.sleep(0.5)
        for version in ("v2", "v1", "v2"):  # by another process, as it were
            other = Registry(Store.open(registry.store._engine.url.database or "", "contract_qa"))
            other.promote(version, "loop", "better")
            wait_for_champion(service, version)
            time.sleep(0.3)
        stop.set()
        answers = [each for worker in asking for each in worker.result()]
        assert {version for _, version in answers} == {"v1", "v2"}
        assert {(each.id, each.version) for each in service.kept()} == set(answers)
        assert service.metric("synth_dspy_responses_total") == pytest.approx(
            service.metric('synth_dspy_responses_total{path="/answer",status="200"}')
            + service.metric('synth_dspy_responses_total{path="/health"')
            + service.metric('synth_dspy_responses_total{path="/metrics"'),
            abs=3,
        )


def test_a_request_ends_with_the_program_that_it_began_with(serve: Serve, registry: Registry) -> None:
    release = threading.Event()

    def wait(question: str) -> str:
        release.wait(20)
        return "of the old one"

    with serve({"first": Program("first", wait)}) as service, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(service.answer)
        registry.promote("v2", "person:ann", "better")
        wait_for_champion(service, "v2")
        assert service.answer()["version"] == "v2"
        release.set()
        answer = begun.result()
        assert (answer["version"], answer["answer"]) == ("v1", "of the old one")


def test_a_version_that_cannot_be_opened_leaves_the_champion(serve: Serve, registry: Registry) -> None:
    with serve() as service:
        del service.programs["second"]
        registry.promote("v2", "person:ann", "better")
        deadline = time.monotonic() + 20
        while service.client.get("/health").json()["status"] == "ok":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert service.answer()["version"] == "v1"
        assert service.metric("synth_dspy_degraded") == 1
        registry.roll_back("person:ann", "it cannot be opened")
        while service.client.get("/health").json()["status"] != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert service.answer()["version"] == "v1"


def test_versions_that_cannot_be_opened_are_told_each_once(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.register(Path(registry.version("v1").run), "third")
    broken: set[str] = set()

    def open_version(version: Version) -> OpenHere:
        if version.id in broken:
            raise SetupError("The disk is full.")
        return OpenHere(Program(version.arm), ThreadPoolExecutor(1))

    programs = following.Programs(registry, open_version)
    broken |= {"v2", "v3"}
    registry.promote("v2", "person:ann", "better")
    registry.challenge("v3", "loop", "to be tried")
    for _ in range(3):
        programs.refresh()
        assert programs.problem == "v2 cannot be opened: The disk is full.; v3 cannot be opened: The disk is full."
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == [programs.problem]
    registry.challenge(None, "loop", "tried")
    programs.refresh()
    assert programs.problem == "v2 cannot be opened: The disk is full."


def test_a_challenger_comes_and_goes(serve: Serve, registry: Registry) -> None:
    with serve() as service:
        for version, reason in (("v2", "to be tried"), (None, "tried")):
            registry.challenge(version, "loop", reason, {"share": 1.0})
            deadline = time.monotonic() + 20
            while service.client.get("/health").json()["challenger"] != version:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert service.answer()["version"] == (version or "v1")


def test_a_store_that_is_away_for_a_while_stops_nothing(
    serve: Serve, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.02)
    with serve() as service:
        read = registry.store.read
        monkeypatch.setattr(registry.store, "read", lambda *args, **keys: 1 / 0)
        time.sleep(0.2)
        assert service.client.get("/health").json()["status"] == "degraded"
        assert service.answer()["version"] == "v1"
        monkeypatch.setattr(registry.store, "read", read)
        time.sleep(0.2)
        assert service.client.get("/health").json()["status"] == "ok"


def test_without_a_champion_nothing_is_served(serve: Serve, registry: Registry) -> None:
    registry.store.task = "function_calling"
    with pytest.raises(SetupError, match="has no version yet"), serve():
        pass
