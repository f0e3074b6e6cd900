"""A workspace with a task in production whose student is a loopback server, for tests of the loop."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from embedders import WordEmbedder
from servers import Behaviour, Server, serving

from synth_dspy.core.config import compile_settings
from synth_dspy.core.workspace import task_file
from synth_dspy.loop import rows, turn
from synth_dspy.loop.records import Feedback, Request, Route
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import FILE, Store, now
from synth_dspy.loop.turn import Loop
from synth_dspy.loop.work import Plan, Work
from synth_dspy.pipeline import experiment
from synth_dspy.pipeline.compile import start

TEAMS = ("billing", "card", "login")
TASK = '''
from pathlib import Path
from typing import Literal

import dspy
from synth_dspy import Rows, Task, task


class Triage(dspy.Signature):
    """Say which team answers the ticket."""

    text: str = dspy.InputField()
    team: Literal["billing", "card", "login"] = dspy.OutputField()


@task
def tickets(rows: Path = Path("data/tickets.jsonl")) -> Task:
    """Tickets."""
    return Task(program=dspy.Predict(Triage), source=Rows(rows))
'''


def ticket(number: int) -> dict[str, str]:
    words = " ".join(f"word{number}x{n}" for n in range(6))
    return {"id": f"t{number}", "text": f"{words}. It is about my {TEAMS[number % 3]}", "team": TEAMS[number % 3]}


SAYINGS = ("I was charged twice", "my card was declined", "I cannot sign in")


def saying(number: int) -> dict[str, str]:
    """A ticket that a small model can learn to place."""
    return {
        "id": f"s{number}",
        "text": f"{SAYINGS[number % 3]}; case {number * 7919 % 10007}.",
        "team": TEAMS[number % 3],
    }


def learner(body: dict[str, Any]) -> str:
    """Answers right where the prompt shows examples, else always the same."""
    text = json.dumps(body["messages"])
    asked = re.findall(r"It is about my (\w+)", text)
    return json.dumps({"team": asked[-1] if len(asked) > 1 else "card"})


class Production:
    """The task `tickets`, its baseline in production."""

    def __init__(
        self,
        here: Path,
        server: Server,
        rows: int = 60,
        folds: int = 1,
        judge: str = "reference",
        quick: bool = False,
        task: str = "",
    ) -> None:
        self.here, self.server = here, server
        task = task or TASK  # looked up now: tests replace it
        (here / "programs").mkdir()
        (here / "programs" / "__init__.py").touch()
        (here / "programs" / "tickets.py").write_text(task)
        (here / "data").mkdir()
        self.write(rows)
        self.folder = here / "runs" / "tickets"
        config = compile_settings(task_file(here, "tickets")).model_validate(
            {
                "models": {
                    **dict.fromkeys(("student", "teacher", "embedder"), "openai/mock"),
                    "judge": judge,
                    "api_base": server.url,
                },
                "synthesis": {"candidates": 0},
                "evaluation": {"arms": ("bootstrap",)} if task is TASK else {},
                "splits": {"folds": folds},
                "concurrency": 4,
                "quick": quick,
                "retention": {"prompts": 0},
            }
        )
        self.run = start(here, "tickets", config).folder
        self.registry = Registry(Store.open(self.folder / FILE, "tickets"))
        self.registry.register(self.run, self.baseline)
        self.registry.promote("v1", "person:ann", "the first one")
        self.said: list[str] = []

    @property
    def baseline(self) -> str:
        return next(path.name for path in sorted((self.run / "programs").iterdir()) if path.name != "bootstrap")

    def write(self, count: int) -> None:
        lines = "".join(json.dumps(ticket(n)) + "\n" for n in range(count))
        (self.here / "data" / "tickets.jsonl").write_text(lines)

    def loop(self, **plan: Any) -> Loop:
        """A loop as a new process would have it."""
        plan = {"canaries": 0, "requests": 0, "watched": 0, **plan}
        return Loop(Work(self.here, self.folder, self.registry, Plan(**plan), say=self.said.append))

    def ask(self, version: str, route: Route = "champion", count: int = 20, **more: Any) -> list[Request]:
        """Keep requests as the service does."""
        requests = []
        for number in range(count):
            request = Request(
                uuid4().hex, now(), version, route, {"text": ticket(900 + number)["text"]}, "card", False,
                (), 10, 5, 0.1,
            )  # fmt: skip
            requests.append(replace(request, **more))
        self.registry.store.add_together(requests)
        return requests

    def rate(self, requests: Sequence[Request], kind: Any, value: Any) -> None:
        for request in requests:
            self.registry.store.add(Feedback(uuid4().hex, now(), request.id, kind, value))


@contextmanager
def production(here: Path, **more: Any) -> Iterator[Production]:
    """The task in production; `programs` is this workspace's while it lasts."""
    kept = {name: sys.modules.pop(name) for name in [*sys.modules] if name.split(".")[0] == "programs"}
    path, modules = list(sys.path), (experiment, rows, turn)
    embedders = [module.open_embedder for module in modules]
    sys.path.insert(0, str(here))
    for module in modules:
        module.open_embedder = lambda config: WordEmbedder()  # type: ignore[attr-defined]
    try:
        with serving(Behaviour(respond=learner)) as server:
            yield Production(here, server, **more)
    finally:
        sys.path[:] = path
        for module, opens in zip(modules, embedders, strict=True):
            module.open_embedder = opens  # type: ignore[attr-defined]
        for name in [name for name in sys.modules if name.split(".")[0] == "programs"]:
            del sys.modules[name]
        sys.modules.update(kept)
