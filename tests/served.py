"""A service in a thread of this process, whose programs answer by a script."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dspy
import httpx
from fastapi import FastAPI
from scripted import scripted_lm

from synth_dspy.loop.records import Feedback, Request, Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store
from synth_dspy.service.app import Service, make_app
from synth_dspy.service.running import OpenHere, Outcome
from synth_dspy.service.server import listen, make_server
from synth_dspy.service.settings import Limits


class Program(dspy.Module):
    """Answers a question with a script, `name: question` by default; remembers what it was asked."""

    def __init__(self, name: str, script: Callable[[str], str] | None = None) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")
        self.answer.set_lm(scripted_lm(lambda prompt: "unused"))
        self.script = script or (lambda question: f"{name}: {question}")
        self.asked: list[dict[str, Any]] = []

    def forward(self, question: str, document: str | None = None, conversation: str = "") -> dspy.Prediction:
        self.asked.append({"question": question, "document": document, "conversation": conversation})
        answer = self.script(question)
        return dspy.Prediction(answer=answer, passages=["a passage"], abstained=answer == "Not covered.")


class _AsInWorker(OpenHere):
    """What it is asked cannot be cancelled, as in the worker."""

    def ask(self, given: Any) -> Future[Outcome]:
        answer: Future[Outcome] = Future()
        answer.set_running_or_notify_cancel()
        super().ask(given).add_done_callback(lambda done: answer.set_result(done.result()))
        return answer


@dataclass
class Running:
    """A service that is running: its client, its store and its programs by arm."""

    url: str
    client: httpx.Client
    registry: Registry
    programs: dict[str, dspy.Module]

    def answer(self, question: str = "Why?", **headers: str) -> dict[str, Any]:
        response = self.client.post("/answer", json={"question": question}, headers=headers)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def kept(self) -> list[Request]:
        return self.registry.store.read(Request)

    def feedback(self) -> list[Feedback]:
        return self.registry.store.read(Feedback)

    def metric(self, line: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(each.split()[-1]) for each in lines if each.startswith(line))


def versions(tmp_path: Path) -> Registry:
    """Versions v1 (arm `first`, the champion) and v2 (arm `second`); the run has a `third` arm, too."""
    registry = Registry(Store.open(tmp_path / "production.sqlite", "contract_qa"))
    for arm in ("first", "second", "third"):
        program = tmp_path / "run" / "programs" / arm
        program.mkdir(parents=True)
        (program / "program.json").write_text(json.dumps({"arm": arm}))
        (program / "about.json").write_text(json.dumps({"task": "contract_qa", "arm": arm}))
        if arm != "third":
            registry.register(tmp_path / "run", arm)
    registry.promote("v1", "person:ann", "the first")
    return registry


Serve = Callable[..., contextlib.AbstractContextManager[Running]]


@contextlib.contextmanager
def running(app: FastAPI, limits: Limits) -> Iterator[str]:
    """An application on loopback, in a thread: its address."""
    listening = listen("127.0.0.1", 0)
    ready = threading.Event()
    server = make_server(app, limits, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def serving_from(registry: Registry) -> Serve:
    """`serve(programs by arm, settings of Service)`, as a context manager."""

    @contextlib.contextmanager
    def start(programs: dict[str, dspy.Module] | None = None, **settings: Any) -> Iterator[Running]:
        answering = {"first": Program("first"), "second": Program("second"), **(programs or {})}

        threads = ThreadPoolExecutor(settings.get("limits", Limits()).concurrency)

        def open_version(version: Version) -> OpenHere:
            return _AsInWorker(answering[version.arm], threads)

        service = Service(registry, open_version, **settings)
        with running(make_app(service), service.limits) as url, httpx.Client(base_url=url, timeout=30) as client:
            yield Running(url, client, registry, answering)

    return start
