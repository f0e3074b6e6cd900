"""OpenAI's chat API in front of a task."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from scripted import ScriptedEngine, scripted_lm
from served import Serve

from synth_dspy.models.ledger_lm import LedgerEngine, LedgerLM

USER = {"role": "user", "content": "And then?"}
EARLIER = [{"role": "user", "content": "What\nfirst?"}, {"role": "assistant", "content": "This."}]


def post(service: Any, *messages: Any, **more: Any) -> Any:
    return service.client.post("/v1/chat/completions", json={"model": "x", "messages": messages, **more})


def test_the_last_message_is_the_question_and_the_others_the_conversation(serve: Serve) -> None:
    with serve() as service:
        response = post(service, {"role": "system", "content": "Be kind."}, *EARLIER, USER, temperature=0, user="ann")
        body = response.json()
        assert body["choices"][0]["message"] == {"role": "assistant", "content": "first: And then?", "refusal": None}
        assert body["object"] == "chat.completion"
        assert service.programs["first"].asked[0]["conversation"] == "User: What first?\nAssistant: This."
        (kept,) = service.kept()
        assert (f"chatcmpl-{kept.id}", kept.person) == (body["id"], "ann")
        given = {"request": body["id"], "kind": "thumb", "value": False}
        assert service.client.post("/feedback", json=given).status_code == 201
        assert service.client.get("/v1/models").json()["data"][0]["id"] == "contract_qa"


def test_a_stream_holds_the_answer_in_one_chunk(serve: Serve) -> None:
    with serve() as service:
        response = post(service, {"role": "user", "content": [{"type": "text", "text": "Why?"}]}, stream=True)
        assert response.headers["content-type"].startswith("text/event-stream")
        *events, done = (line.removeprefix("data: ") for line in response.text.splitlines() if line)
        assert done == "[DONE]"
        first, last = map(json.loads, events)
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": "first: Why?"}
        assert last["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("messages", "more", "sentence"),
    [
        ([], {}, "messages"),
        ([USER, {"role": "assistant", "content": "This."}], {}, "The last message must be the user's."),
        ([{"role": "system", "content": "x"}], {}, "The last message must be the user's."),
        ([USER], {"n": 2}, "n is 2"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], {}, "messages.0.content"),
    ],
)
def test_what_a_chat_cannot_be(serve: Serve, messages: Any, more: Any, sentence: str) -> None:
    with serve() as service:
        response = post(service, *messages, **more)
        assert response.status_code == 422
        assert sentence in response.json()["error"]["message"]


def test_a_task_with_other_inputs_has_no_chat(serve: Serve) -> None:
    program = dspy.Predict("table, column -> answer")
    program.set_lm(scripted_lm(lambda prompt: "[[ ## answer ## ]]\nx"))
    with serve({"first": program}) as service:
        response = post(service, USER)
        assert response.status_code == 400
        assert "This task takes column, table" in response.json()["error"]["message"]


def test_the_openai_client_understands_the_answers(serve: Serve) -> None:
    openai = pytest.importorskip("openai")
    with serve() as service:
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        done = client.chat.completions.create(model="any", messages=[USER])
        assert done.choices[0].message.content == "first: And then?"
        chunks = client.chat.completions.create(model="any", messages=[USER], stream=True)
        assert "".join(each.choices[0].delta.content or "" for each in chunks) == "first: And then?"
        with pytest.raises(openai.UnprocessableEntityError, match="The last message must be the user's"):
            client.chat.completions.create(model="any", messages=[{"role": "system", "content": "x"}])


@pytest.mark.parametrize(("finish", "truncated"), [("length", True), ("stop", False)])
def test_an_answer_cut_off_at_the_token_limit_says_so(serve: Serve, finish: str, truncated: bool) -> None:
    program = dspy.Predict("question -> answer")
    engine = ScriptedEngine(lambda prompt: "[[ ## answer ## ]]\nThe tip is", finish)
    program.set_lm(LedgerLM("test/scripted", engine=LedgerEngine(engine, ledger=None, role="student")))
    with serve({"first": program}) as service:
        answer = service.answer()
        assert (answer["answer"], answer["truncated"]) == ("The tip is", truncated)
        assert post(service, USER).json()["choices"][0]["finish_reason"] == finish
        assert f'"finish_reason": "{finish}"' in post(service, USER, stream=True).text
