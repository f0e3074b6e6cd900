"""Feedback over HTTP, of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from served import Serve


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
        ({"kind": "stars", "value": 5}, 422, "'thumb', 'score', 'comment', 'correction', 'better'"),
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
