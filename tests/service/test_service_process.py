"""The service in a process of its own: killed, stopped, and steered by the other verbs."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest
from servers import Behaviour, command
from service_workspace import call, service, workspace_with_run

from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store
from synth_dspy.pipeline.trust import Caller
from synth_dspy.service.worker import Worker


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """A workspace whose task `notes` has the champion v1."""
    with subprocess.Popen(command(Behaviour(latency_s=0.05)), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        run = workspace_with_run(tmp_path / "place", url)
        registry = Registry(Store.open(run.parent / "production.sqlite", "notes"))
        registry.register(run, "first")
        registry.promote("v1", "person:ann", "the first")
        yield tmp_path / "place"
        server.kill()


def stored(workspace: Path) -> Store:
    return Store.open(workspace / "runs" / "notes" / "production.sqlite", "notes")


class Load:
    """Workers that ask and give feedback until they are stopped or the service is gone."""

    def __init__(self, url: str, workers: int) -> None:
        self.url, self.stop = url, threading.Event()
        self.answered: list[tuple[str, str]] = []
        self.rated: list[str] = []
        self.refused: list[Any] = []
        self.pool = ThreadPoolExecutor(workers)
        self.asking = [self.pool.submit(self._ask, number) for number in range(workers)]

    def _ask(self, worker: int) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            for number in range(100_000):
                if self.stop.is_set():
                    return
                try:
                    response = client.post("/answer", json={"question": f"{worker} {number}"})
                    if response.status_code != 200:
                        self.refused.append(response.text)
                        continue
                    answer = response.json()
                    self.answered.append((answer["request"], answer["answer"]))
                    given = {"request": answer["request"], "kind": "thumb", "value": True}
                    given_back = client.post("/feedback", json=given)
                    if given_back.status_code == 201:
                        self.rated.append(given_back.json()["id"])
                    else:
                        self.refused.append(given_back.text)
                except httpx.TransportError:
                    return

    def finish(self) -> None:
        self.stop.set()
        for each in self.asking:
            each.result()


@pytest.mark.slow
def test_a_service_that_is_killed_has_lost_no_answer(workspace: Path) -> None:
    answered: list[tuple[str, str]] = []
    rated: list[str] = []
    for seconds in (0.7, 1.3):
        with service(workspace) as (process, url):
            load = Load(url, 16)
            while len(load.answered) < 20:
                time.sleep(0.02)
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
            load.finish()
        assert load.refused == []
        answered += load.answered
        rated += load.rated
    store = stored(workspace)
    kept = {(each.id, each.answer) for each in store.read(Request)}
    assert len(answered) > 60
    assert set(answered) <= kept
    assert set(rated) <= {each.id for each in store.read(Feedback)}


@pytest.mark.slow
def test_a_worker_that_crashes_is_started_again_and_no_request_fails(workspace: Path) -> None:
    with service(workspace) as (process, url):
        load = Load(url, 8)
        for answers in (20, 60):
            while len(load.answered) < answers:
                time.sleep(0.02)
            (worker,) = psutil.Process(process.pid).children()
            worker.kill()
        while len(load.answered) < 100:
            time.sleep(0.02)
        load.finish()
    assert load.refused == []
    kept = stored(workspace).read(Request)
    assert {each.id for each in kept} == {request for request, _ in load.answered}
    assert all(each.error is None for each in kept)


@pytest.mark.slow
def test_a_worker_that_could_not_be_started_or_open_its_program_tries_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    start, failures = subprocess.Popen, iter([OSError("no memory"), OSError("no memory")])

    def start_later(*args: Any, **keys: Any) -> Any:
        for failure in failures:
            raise failure
        return start(*args, **keys)

    version = Registry(stored(workspace)).version("v1")
    saved = Path(version.run) / "programs" / version.arm / "program.json"
    before = set(psutil.Process().children())
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", start_later)
        worker = Worker(Caller(trust=True), 2)
        program = worker.open(version)
    try:
        given = {"question": "x"}
        assert program.ask(given).result().error is None
        text = saved.read_text()
        saved.write_text(f"{text} ")
        for child in set(psutil.Process().children()) - before:
            child.kill()
        failed = program.ask(given).result()
        assert "has been changed" in failed.message
        assert (failed.inputs, failed.status) == (given, 502)  # it is kept, and counted
        saved.write_text(text)
        assert program.ask(given).result().error is None
        worker.close_version(version)
        assert program.ask(given).result().status == 503
    finally:
        worker.close()


@pytest.mark.slow
def test_a_stop_lets_what_has_begun_end(workspace: Path) -> None:
    with service(workspace) as (process, url):
        load = Load(url, 8)
        while len(load.answered) < 20:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        load.finish()
        assert process.wait(60) in (0, -signal.SIGTERM)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert load.refused == []
    kept = stored(workspace).read(Request)
    assert {each.id for each in kept} == {request for request, _ in load.answered}  # none began and did not end
    assert all(each.error is None for each in kept)


@pytest.mark.slow
def test_promotion_and_rollback_by_command_reach_the_service(workspace: Path) -> None:
    run = next((workspace / "runs" / "notes").glob("*/programs")).parent
    with service(workspace) as (_, url), httpx.Client(base_url=url, timeout=30) as client:
        load = Load(url, 4)
        for args, champion in (
            (("promote", "notes", f"{run.name}:second", "--by", "bob", "--reason", "is better"), "v2"),
            (("rollback", "notes"), "v1"),
        ):
            done = call(workspace, *args)
            assert done.returncode == 0, done.stderr
            assert f"champion  {champion}" in done.stdout
            deadline = time.monotonic() + 30
            while client.get("/health").json()["champion"] != champion:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert client.post("/answer", json={"question": "x"}).json()["version"] == champion
        load.finish()
        assert load.refused == []
    shown = call(workspace, "versions", "notes").stdout
    assert "v2" in shown
    assert "rolled back by hand" in shown
    lineage = call(workspace, "versions", "notes", "v2").stdout
    assert "person:bob" in lineage
    assert "is better" in lineage


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("promote", "notes", "nope:first"), "There is no run 'nope'"),
        (("promote", "notes", "v9"), "has no version 'v9'; there are v1"),
        (("promote", "notes", "v1"), "v1 is the champion of notes already"),
        (("rollback", "notes"), "no previous champion"),
        (("versions", "note"), "Did you mean notes?"),
        (("versions",), "TASK"),
        (("serve", "notes", "--host", "0.0.0.0"), "set SYNTH_DSPY_KEY"),
        (("serve", "notes", "--redact", "("), "is not a regular expression"),
        (("serve", "notes", "--redact-with", "programs.notes:none"), "has no function none"),
        (("serve", "notes", "--store", "nosuch://x"), "could not be opened"),
    ],
)
def test_a_mistake_is_one_sentence(workspace: Path, args: tuple[str, ...], sentence: str) -> None:
    done = call(workspace, *args)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
