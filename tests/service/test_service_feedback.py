"""Feedback over HTTP, of every kind."""

from __future__ import annotations

from typing import Any, Literal

import dspy
import pytest
from scripted import scripted_lm
from served import Serve

from synth_dspy.evaluation.answers import answer_type
from synth_dspy.pipeline.answering import Answering


@pytest.mark.parametrize(
    ("kind", "value"), [("thumb", True), ("thumb", False), ("score", 4), ("comment", "Too long."), ("correction", "30")]
)
def test_feedback_of_each_kind_is_kept(serve: Serve, kind: str, value: Any) -> None:
    with serve() as service:
        request = service.answer()["request"]
        given = {"request": request, "kind": kind, "value": value, "rater": "ann"}
        response = service.client.post("/feedback", json=given)
        assert response.status_code == 201
        (kept,) = service.feedback()
        assert (kept.id, kept.request, kept.kind, kept.value) == (response.json()["id"], request, kind, value)
        assert (kept.source, kept.rater) == ("person", "ann")
        assert service.metric(f'synth_dspy_feedback_total{{kind="{kind}"}}') == 1


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"value": 3}, 422, "value is 3: it should be a valid boolean"),
        ({"kind": "score", "value": 6}, 422, "value is 6: it should be less than or equal to 5"),
        ({"kind": "score", "value": True}, 422, "it should be a valid integer"),
        ({"kind": "comment", "value": "  "}, 422, "value"),
        ({"kind": "stars", "value": 5}, 422, "kind is 'stars': it should be one of thumb, score, comment, corr"),
        ({"request": "none"}, 404, "There is no request 'none'."),
        ({"rater": "no such; name"}, 422, "rater"),
        ({"person": "ann"}, 422, "person"),
    ],
)
def test_wrong_feedback_is_refused(serve: Serve, change: dict[str, Any], status: int, sentence: str) -> None:
    with serve() as service:
        given = {"request": service.answer()["request"], "kind": "thumb", "value": True, **change}
        response = service.client.post("/feedback", json=given)
        assert response.status_code == status
        assert sentence in response.json()["error"]["message"]
        assert service.feedback() == []


class Triage(dspy.Signature):
    """Say which problem a message is about."""

    question: str = dspy.InputField()
    kind: Literal["pest", "water"] = dspy.OutputField()


class Count(dspy.Signature):
    """Count."""

    question: str = dspy.InputField()
    number: int = dspy.OutputField()


def typed(signature: type[dspy.Signature], output: str, reply: str, abstain: str = "") -> dspy.Module:
    program = dspy.Predict(signature)
    program.set_lm(scripted_lm(lambda prompt: reply))
    return Answering(program, answer_type(program, output), abstain, dspy.JSONAdapter())


@pytest.mark.parametrize(
    ("program", "right", "wrong", "remedy"),
    [
        (typed(Triage, "kind", '{"kind": "pest"}'), "water\n", "banana", "output kind: make it one of pest, water."),
        (
            typed(Triage, "kind", '{"kind": "pest"}', "None."),
            "None.",
            "Water",
            "make it water, as the program's type spells it.",
        ),
        (typed(Count, "number", '{"number": 3}'), "4", "four", "output number: make it int."),
    ],
)
def test_a_corrected_answer_is_of_the_output_s_type(
    serve: Serve, program: dspy.Module, right: str, wrong: str, remedy: str
) -> None:
    with serve({"first": program}) as service:
        given = {"request": service.answer()["request"], "kind": "correction"}
        refused = service.client.post("/feedback", json={**given, "value": wrong})
        assert (refused.status_code, refused.json()["error"]["param"]) == (422, "value")
        assert refused.json()["error"]["message"].startswith(f"'{wrong}' is not a value of the ")
        assert refused.json()["error"]["message"].endswith(remedy)
        edited = {"decisions": [{"request": given["request"], "value": wrong}]}
        assert service.client.post("/acceptance", json=edited).status_code == 422
        assert service.feedback() == []
        assert service.client.post("/feedback", json={**given, "value": right}).status_code == 201
        assert [each.value for each in service.feedback()] == [right.strip()]


def test_the_better_of_two_needs_the_same_inputs(serve: Serve) -> None:
    with serve() as service:
        first, again, other = (service.answer(question)["request"] for question in ("Why?", "Why?", "How?"))

        def better(request: str, value: str) -> int:
            given = {"request": request, "kind": "better", "value": value}
            return service.client.post("/feedback", json=given).status_code

        assert better(first, again) == 201
        assert better(first, other) == 422
        assert better(first, first) == 422
        assert better(first, "none") == 404
        assert [(each.request, each.value) for each in service.feedback()] == [(first, again)]


def test_the_same_feedback_sent_twice_is_kept_once(serve: Serve) -> None:
    with serve() as service:
        given = {"id": "0" * 32, "request": service.answer()["request"], "kind": "thumb", "value": True}
        statuses = [service.client.post("/feedback", json=given).status_code for _ in range(2)]
        assert statuses == [201, 200]
        assert len(service.feedback()) == 1


def test_feedback_on_an_answer_of_before_a_restart(serve: Serve) -> None:
    with serve() as service:
        requests = [service.answer()["request"] for _ in range(2)]
    with serve() as service:
        given = {"request": f"chatcmpl-{requests[0]}", "kind": "better", "value": requests[1]}
        assert service.client.post("/feedback", json=given).status_code == 201
