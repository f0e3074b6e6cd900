"""The model server's scheduling, over a pipeline of our own: who waits, who fails, and what is left when it closes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from synth_dspy.models.embedded import server
from synth_dspy.models.embedded.generation import ContextWindowError, PipelineError, Sampling, ServerSettings

WINDOW = 16


class Handle:
    """A request: it says its own prompt, one token a step."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.said, self.cancelled = ids, 0, False

    def cancel(self) -> None:
        self.cancelled = True

    def can_read(self) -> bool:
        return self.said > 0

    def state(self) -> str:
        return "running" if self.said < len(self.ids) else "finished"

    def read(self) -> tuple[list[int], list[float], bool]:
        return list(self.ids), [], len(self.ids) > 8


class Pipeline:
    """Steps all requests; `b"!"` in a prompt makes a step with it fail, and `gate` holds steps up."""

    made: ClassVar[list[Pipeline]] = []

    context_length = WINDOW

    def __init__(self, gate: threading.Event) -> None:
        self.tokenizer = Letters()
        self.gate, self.handles, self.batches = gate, [], []
        Pipeline.made.append(self)

    def add(self, number: int, ids: list[int], sampling: Any) -> Handle:
        self.handles.append(Handle(ids))
        return self.handles[-1]

    def close(self) -> None:
        pass

    def step(self) -> None:
        self.gate.wait()
        running = [handle for handle in self.handles if handle.said < len(handle.ids) and not handle.cancelled]
        self.batches.append(len(running))
        if any(ord("!") in handle.ids for handle in running):
            raise RuntimeError("no such token")
        for handle in running:
            handle.said += 1


class Letters:
    """A token is a character."""

    stop_ids = frozenset({0})
    stops = ()
    longest = 100

    def __init__(self, *_: Any) -> None:
        pass

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        return "\n".join(message["content"] for message in messages)

    def encode(self, prompt: str) -> list[int]:
        return list(prompt.encode())

    def text(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Closed while cleared: no step ends."""
    opened = threading.Event()
    opened.set()
    monkeypatch.setattr(Pipeline, "made", [])
    monkeypatch.setattr(server, "open_pipeline", lambda path, settings: Pipeline(opened))
    monkeypatch.setattr(server, "context_window", lambda path: WINDOW)
    yield opened
    opened.set()


@pytest.fixture
def serve(gate: threading.Event) -> Iterator[Any]:
    made: list[server.ModelServer] = []

    def start(**settings: int) -> server.ModelServer:
        made.append(server.ModelServer(Path("toy.gguf"), settings=ServerSettings(**settings)))
        return made[-1]

    yield start
    gate.set()
    for each in made:
        each.close()


def test_replies_come_to_those_who_asked(serve: Any) -> None:
    toy = serve(max_sequences=2)
    futures = [toy.submit(text, Sampling(max_tokens=4)) for text in ("one", "three", "five, six")]
    assert [future.result(5).text for future in futures] == ["one", "three", "five, six"]
    assert [future.result().finish_reason for future in futures] == ["stop", "stop", "length"]
    assert max(Pipeline.made[0].batches) <= 2  # the third waited in line
    assert toy.render([{"role": "user", "content": "hi"}]) == "hi"
    assert toy.token_ids("hi") == [104, 105]


def test_a_failing_step_costs_the_culprit_alone(serve: Any, gate: threading.Event) -> None:
    gate.clear()
    toy = serve()
    futures = [toy.submit(text, Sampling(max_tokens=4)) for text in ("one", "tw!", "three")]
    gate.set()
    assert futures[0].result(5).text == "one"
    assert futures[2].result(5).text == "three"
    with pytest.raises(PipelineError, match=r"toy\.gguf: the pipeline failed: no such token"):
        futures[1].result(5)
    assert toy.submit("four", Sampling(max_tokens=4)).result(5).text == "four"
    assert len(Pipeline.made) > 1  # a pipeline that failed is not used again


def test_what_cannot_fit_is_refused_before_it_is_read(serve: Any) -> None:
    toy = serve()
    with pytest.raises(ContextWindowError, match="the prompt's 14 tokens and the reply's 4 exceed"):
        toy.submit("x" * 14, Sampling(max_tokens=4))
    with pytest.raises(ContextWindowError, match="100 or more tokens"):
        toy.submit("x" * 100, Sampling(max_tokens=4))
    assert not toy.busy


def test_stop_strings_end_a_reply(serve: Any) -> None:
    assert serve().submit("so. no", Sampling(max_tokens=4, stop=(".",))).result(5).text == "so"


def test_a_closed_server_says_so(serve: Any, gate: threading.Event) -> None:
    gate.clear()
    toy = serve(max_sequences=1)
    waiting = [toy.submit(text, Sampling(max_tokens=4)) for text in ("one", "two")]
    threading.Timer(0.05, gate.set).start()
    toy.close()
    assert not toy.alive
    with pytest.raises(PipelineError, match="the model server was closed"):
        waiting[1].result(5)
    for ask in (lambda: toy.submit("three", Sampling()), lambda: toy.render([])):
        with pytest.raises(PipelineError, match="the model server is closed"):
            ask()


def test_a_model_that_does_not_load_is_named(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, settings: ServerSettings) -> None:
        raise RuntimeError("not a model")

    monkeypatch.setattr(server, "open_pipeline", fail)
    with pytest.raises(PipelineError, match=r"toy\.gguf: not a model"):
        serve().submit("one", Sampling(max_tokens=4))
