"""Answers over HTTP: what is accepted, what comes back, what is kept."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Literal

import dspy
import pytest
from dspy.utils.exceptions import ContextWindowExceededError
from scripted import scripted_lm
from served import Program, Serve

from synth_dspy.core.errors import ModelError
from synth_dspy.loop.records import Request, shadow_of
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import now
from synth_dspy.service.inputs import Inputs
from synth_dspy.service.redaction import Redaction
from synth_dspy.service.settings import Limits, Traffic
from synth_dspy.service.turns import Turns


def test_an_answer_is_kept_with_its_version_passages_and_person(serve: Serve) -> None:
    with serve() as service:
        response = service.client.post(
            "/answer", json={"question": "Why?", "document": "lease"}, headers={"X-Person": "ann@shop"}
        )
        answer = response.json()
        assert (answer["version"], answer["answer"], answer["passages"]) == ("v1", "first: Why?", ["a passage"])
        (kept,) = service.kept()
        assert (kept.id, kept.version, kept.route, kept.person) == (answer["request"], "v1", "champion", "ann@shop")
        assert kept.inputs == {"question": "Why?", "document": "lease"}
        assert (kept.answer, kept.passages, kept.error) == ("first: Why?", ("a passage",), None)
        assert 0 < kept.latency_s < 10
        assert service.metric('synth_dspy_answers_total{outcome="answered",route="champion",version="v1"}') == 1


@pytest.mark.parametrize(
    ("body", "kind", "status", "sentence"),
    [
        (b'{"question": "Why?"}', "text/plain", 415, "Send JSON with the header Content-Type: application/json."),
        (b"", "application/json", 400, "The body is not JSON: EOF while parsing a value at line 1 column 0."),
        (b'{"question": ', "application/json", 400, "The body is not JSON: EOF while parsing a value"),
        (b"[" * 10_000, "application/json", 400, "The body is not JSON: recursion limit exceeded"),
        (b'"Why?"', "application/json", 422, "The body: it should be a valid dictionary."),
        (b"{}", "application/json", 422, "question is missing."),
        (b'{"question": ""}', "application/json", 422, "question is empty."),
        (b'{"question": " \\n", "document": "lease"}', "application/json", 422, "question is empty."),
        (b'{"question": 3}', "application/json", 422, "question is 3: it should be a valid string."),
        (b'{"qestion": "Why?", "question": "a"}', "application/json", 422, "did you mean question or"),
    ],
)
def test_a_wrong_request_is_one_sentence(serve: Serve, body: bytes, kind: str, status: int, sentence: str) -> None:
    with serve() as service:
        response = service.client.post("/answer", content=body, headers={"Content-Type": kind})
        assert response.status_code == status
        assert sentence in response.json()["error"]["message"]
        assert service.kept() == []


def test_paths_and_methods_that_do_not_exist(serve: Serve) -> None:
    with serve() as service:
        assert service.client.get("/nowhere").json()["error"]["message"] == "There is nothing at /nowhere."
        wrong_method = service.client.get("/answer")
        assert (wrong_method.status_code, wrong_method.json()["error"]["type"]) == (405, "invalid_request_error")
        assert service.client.get("/health").json()["champion"] == "v1"
        assert set(service.client.get("/health").json()["inputs"]["properties"]) == {
            "question",
            "document",
            "conversation",
        }


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ModelError("The student failed a call."), 502, "The student failed a call."),
        (KeyError("secret detail"), 500, "The program failed with KeyError"),
    ],
)
def test_a_failure_is_told_and_kept(serve: Serve, error: Exception, status: int, sentence: str) -> None:
    def fail(question: str) -> str:
        raise error

    with serve({"first": Program("first", fail)}) as service:
        response = service.client.post("/answer", json={"question": "Why?"})
        assert response.status_code == status
        assert sentence in response.json()["error"]["message"]
        assert "secret" not in response.text
        (kept,) = service.kept()
        assert kept.error is not None
        assert kept.error.startswith(type(error).__name__)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("There is no document 'x'."), "There is no document 'x'."),
        (ContextWindowExceededError(model="m"), "The inputs are too long for the model."),
    ],
)
def test_inputs_that_the_program_refuses_are_no_failure_of_the_program(
    serve: Serve, registry: Registry, caplog: pytest.LogCaptureFixture, error: Exception, sentence: str
) -> None:
    def refuse(question: str) -> str:
        raise error

    registry.challenge("v2", "loop", "trained on feedback", {"shadow": True})
    caplog.set_level("INFO", "synth_dspy.service")
    refusing = {arm: Program(arm, refuse) for arm in ("first", "second")}
    with serve(refusing, redaction=Redaction(("'x'",))) as service:
        response = service.client.post("/answer", json={"question": "Why?"})
        assert (response.status_code, response.json()["error"]["message"]) == (422, sentence)
        assert service.metric("synth_dspy_answers_total") == 0
    assert service.kept() == []
    redacted = sentence.replace("'x'", "***")
    assert f"a request was refused with 422: {redacted}" in caplog.text
    assert "failed on" not in caplog.text


def test_an_answer_that_takes_too_long_is_given_up_and_kept(serve: Serve) -> None:
    release = threading.Event()

    def wait(question: str) -> str:
        release.wait(20)
        return "late"

    with serve({"first": Program("first", wait)}, limits=Limits(answer_s=0.3)) as service:
        response = service.client.post("/answer", json={"question": "Why?"})
        release.set()
        assert response.status_code == 504
        assert [request.error and request.error.partition(":")[0] for request in service.kept()] == ["TimeoutError"]


def test_a_request_is_kept_with_the_time_of_its_end_so_that_the_monitor_misses_none(serve: Serve) -> None:
    looked: list[datetime] = []

    def look(question: str) -> str:
        looked.append(now())  # a monitor that looks here will ask for what is newer
        return "done"

    with serve({"first": Program("first", look)}) as service:
        service.answer()
        assert len(service.registry.store.read(Request, since=looked[0])) == 1


def test_nothing_is_computed_for_a_caller_who_was_told_that_it_took_too_long(serve: Serve) -> None:
    release, computed = threading.Event(), []

    def wait(question: str) -> str:
        computed.append(question)
        release.wait(20)
        return "done"

    with serve({"first": Program("first", wait)}, limits=Limits(concurrency=1, answer_s=1.0)) as service:
        for question in ("held up", "behind it"):
            assert service.client.post("/answer", json={"question": question}).status_code == 504
        release.set()
        assert service.answer("afterwards")["answer"] == "done"
    assert computed == ["held up", "afterwards"]


@pytest.mark.parametrize(("patience_s", "first"), [(60.0, "oldest"), (-1.0, "newest")])
def test_the_newest_comes_first_where_others_have_waited_too_long(patience_s: float, first: str) -> None:
    came: list[str] = []

    async def ask(turns: Turns, name: str) -> None:
        await turns.take()
        came.append(name)

    async def ask_all() -> None:
        turns = Turns(1, patience_s)
        await turns.take()
        asking = [asyncio.create_task(ask(turns, name)) for name in ("gone", "oldest", "newest")]
        await asyncio.sleep(0)
        asking[0].cancel()
        for _ in range(2):
            turns.give_back()
            await asyncio.sleep(0)
        await asyncio.gather(*asking, return_exceptions=True)
        turns.give_back()
        await turns.take()  # the one that there is was not lost

    asyncio.run(ask_all())
    assert came == sorted(["oldest", "newest"], key=lambda name: name != first)


def test_more_than_may_wait_are_told_to_come_back(serve: Serve) -> None:
    release = threading.Event()

    def wait(question: str) -> str:
        release.wait(20)
        return "done"

    limits = Limits(concurrency=2, waiting=2)
    with serve({"first": Program("first", wait)}, limits=limits) as service, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(service.client.post, "/answer", json={"question": str(n)}) for n in range(6)]
        while sum(each.done() for each in asked) < 2:
            time.sleep(0.01)
        release.set()
        responses = [each.result() for each in asked]
        assert sorted(each.status_code for each in responses) == [200, 200, 200, 200, 503, 503]
        assert all("retry-after" in each.headers for each in responses if each.status_code == 503)
        assert len(service.kept()) == 4


def test_an_answer_that_cannot_be_kept_is_not_given(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as service:

        def full(records: Any) -> bool:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(service.registry.store, "add_together", full)
        response = service.client.post("/answer", json={"question": "Why?"})
        assert response.status_code == 503
        assert "first" not in response.text
        monkeypatch.undo()
        assert service.answer()["answer"] == "first: Why?"


def test_what_is_redacted_is_answered_but_not_kept(serve: Serve) -> None:
    redaction = Redaction((r"\d{4,}",), lambda text: text.replace("Ann", "someone"))
    with serve(redaction=redaction) as service:
        answer = service.answer("Ann has 12345")
        assert answer["answer"] == "first: Ann has 12345"
        given = {"request": answer["request"], "kind": "comment", "value": "Ann called 555123"}
        assert service.client.post("/feedback", json=given).status_code == 201
        (kept,) = service.kept()
        assert (kept.inputs["question"], kept.answer) == ("someone has ***", "first: someone has ***")
        assert [each.value for each in service.feedback()] == ["someone called ***"]


def test_what_is_redacted_is_not_logged_either(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fail(question: str) -> str:
        raise ModelError(f"The student does not like {question!r}.")

    with serve({"first": Program("first", fail)}, redaction=Redaction((r"\d{4}",))) as service:
        assert "1998" in service.client.post("/answer", json={"question": "1998"}).text
        assert "ModelError: The student does not like '***'." in caplog.text
        with sqlite3.connect(service.registry.store._engine.url.database or "") as database:
            database.execute("DROP TABLE request")
        assert service.client.post("/answer", json={"question": "Why?"}).status_code == 503
        assert "could not be written" in caplog.text
    assert "1998" not in caplog.text
    assert '"question"' not in caplog.text


def test_where_the_redaction_fails_nothing_of_the_text_is_kept(serve: Serve) -> None:
    with serve(redaction=Redaction((), lambda text: str(1 / 0))) as service:
        service.answer("Ann has 12345")
        (kept,) = service.kept()
        assert (kept.inputs["question"], kept.answer) == ("***", "***")


def test_requests_are_forgotten_after_their_time_unless_rated(serve: Serve, registry: Registry) -> None:
    for name, days in (("a" * 32, 10), ("b" * 32, 1)):
        at = now() - timedelta(days=days)
        registry.store.add(Request(name, at, "v1", "champion", {}, "", False, (), 0, 0, 0.1))
    with serve(keep_days=5) as service:
        while len(kept := service.kept()) > 1:
            time.sleep(0.05)
        assert [each.id for each in kept] == ["b" * 32]


def test_a_challenger_gets_its_share_and_a_person_one_version(serve: Serve, registry: Registry) -> None:
    registry.challenge("v2", "loop", "trained on feedback")
    with serve(traffic=Traffic(share=0.3)) as service, ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(lambda n: service.answer(str(n))["version"], range(200)))
        assert 30 <= versions.count("v2") <= 95  # 60 expected, standard deviation 6.5
        routes = {(each.version, each.route) for each in service.kept()}
        assert routes == {("v1", "champion"), ("v2", "challenger")}
        people = [{service.answer(**{"X-Person": f"p{n}"})["version"] for _ in range(3)} for n in range(30)]
        assert all(len(each) == 1 for each in people)
        assert set.union(*people) == {"v1", "v2"}


def test_a_shadow_answers_a_copy_that_nobody_sees(serve: Serve, registry: Registry) -> None:
    registry.challenge("v2", "loop", "trained on feedback", {"shadow": True})  # in place of the share of the flags
    with serve(traffic=Traffic(share=1.0)) as service:
        answer = service.answer("Why?")
        assert answer["version"] == "v1"
        while len(kept := service.kept()) < 2:
            time.sleep(0.02)
        (shadow,) = [each for each in kept if each.route == "shadow"]
        assert (shadow.id, shadow.version, shadow.answer) == (shadow_of(answer["request"]), "v2", "second: Why?")


def test_inputs_of_every_kind_of_program() -> None:
    lm = scripted_lm(lambda prompt: "x")

    class Sort(dspy.Signature):
        """Sort."""

        text: str = dspy.InputField()
        urgency: Literal["low", "high"] = dspy.InputField()
        answer: str = dspy.OutputField()

    class Around(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sort = dspy.ChainOfThought(Sort)

        def forward(self, **inputs: Any) -> dspy.Prediction:
            return self.sort(**inputs)

    for program in (dspy.Predict(Sort), dspy.ChainOfThought(Sort), Around()):
        program.set_lm(lm)
        inputs = Inputs(program)
        assert inputs.shape.required == {"text", "urgency"}
        assert inputs.check({"text": "a", "urgency": "low"}) == {"text": "a", "urgency": "low"}
        with pytest.raises(Exception, match="urgency is 'soon': it should be 'low' or 'high'"):
            inputs.check({"text": "a", "urgency": "soon"})
    assert Inputs(Program("x")).shape.required == {"question"}
    assert json.dumps(Inputs(Program("x")).shape.schema)
