"""Keys, sizes, rates and slow clients."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import nullcontext, suppress
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from served import Serve
from starlette.types import Message, Receive, Scope, Send

from synth_dspy.core.errors import SetupError
from synth_dspy.service.access import Access, keys_from_environment, refuse_open_bind
from synth_dspy.service.pages.session import Sessions
from synth_dspy.service.pages.site import Site
from synth_dspy.service.server import listen
from synth_dspy.service.settings import Limits
from synth_dspy.service.telemetry import Metrics

KEYS = ("k" * 32, "l" * 32)
PROXIED = {"X-Forwarded-For": "203.0.113.9"}
QUESTION = {"question": "Why?"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        (PROXIED, 401),
        ({"Host": "rebound.example"}, 401),
        ({"Host": "["}, 401),
        (PROXIED | {"Authorization": f"Bearer {KEYS[1]}"}, 200),
        (PROXIED | {"X-API-Key": KEYS[0]}, 200),
        (PROXIED | {"X-API-Key": KEYS[0][:-1]}, 401),
        (PROXIED | {"Authorization": "Bearer"}, 401),
        (PROXIED | {"Authorization": "Basic abc"}, 401),
        (PROXIED | {"X-API-Key": b"\xff\xe9"}, 401),
    ],
)
def test_a_key_is_needed_but_for_callers_on_this_machine(serve: Serve, headers: dict[str, Any], status: int) -> None:
    with serve(keys=KEYS) as service:
        response = service.client.post("/answer", json=QUESTION, headers=headers)
        assert response.status_code == status
        if status == 401:
            assert "SYNTH_DSPY_KEY" in response.json()["error"]["message"]
        assert len(service.kept()) == (status == 200)
        for path in ("/metrics", "/v1/models", "/openapi.json"):
            assert service.client.get(path, headers=headers).status_code == status
        assert service.client.get("/health", headers=headers).status_code == 200


def test_without_keys_no_other_machine_is_let_in(serve: Serve) -> None:
    with serve() as service:
        assert service.client.post("/answer", json=QUESTION, headers=PROXIED).status_code == 401
    for host in ("0.0.0.0", "::", "192.0.2.1", "shop.example"):
        with pytest.raises(SetupError, match="set SYNTH_DSPY_KEY"):
            refuse_open_bind(host, ())
        refuse_open_bind(host, KEYS)
    for host in ("127.0.0.1", "::1", "localhost"):
        refuse_open_bind(host, ())


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTH_DSPY_KEY", f"{KEYS[0]}, {KEYS[1]}")
    assert keys_from_environment() == KEYS
    monkeypatch.setenv("SYNTH_DSPY_KEY", "short")
    with pytest.raises(SetupError, match="shorter than 16 characters"):
        keys_from_environment()


def test_rates_count_each_key_and_wrong_keys(serve: Serve) -> None:
    with serve(keys=KEYS, limits=Limits(rate=5)) as service:

        def statuses(key: str, count: int) -> list[int]:
            headers = PROXIED | {"X-API-Key": key}
            return [service.client.get("/v1/models", headers=headers).status_code for _ in range(count)]

        assert statuses(KEYS[0], 6) == [200] * 5 + [429]
        assert statuses(KEYS[1], 1) == [200]
        assert statuses("wrong" * 5, 6) == [401] * 5 + [429]
        refused = service.client.get("/v1/models", headers=PROXIED | {"X-API-Key": KEYS[0]})
        assert int(refused.headers["retry-after"]) <= 13
        assert [service.client.get("/v1/models").status_code for _ in range(9)] == [200] * 9  # this machine


@pytest.mark.parametrize("size", [2_001, 10_000, 1_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_huge_body_is_refused_in_words(serve: Serve, size: int, chunked: bool) -> None:
    with serve(limits=Limits(body_bytes=2_000)) as service:
        body: Any = b'{"question": "' + b"a" * size + b'"}'
        if chunked:
            body = (part for part in [body[:100], body[100:]])
        may_be_cut_off = suppress(httpx.TransportError) if size == 1_000_000 else nullcontext()
        with may_be_cut_off:
            response = service.client.post("/answer", content=body, headers={"Content-Type": "application/json"})
            assert response.status_code == 413
            assert "The body is longer than 2,000 bytes" in response.json()["error"]["message"]
        assert service.answer()["answer"] == "first: Why?"
        assert len(service.kept()) == 1


def raw(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 0), timeout=15)


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"POST /ans",
        b"POST /answer HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST /answer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    ],
)
def test_clients_that_send_slowly_are_cut_off_while_others_are_answered(serve: Serve, start: bytes) -> None:
    with serve(limits=Limits(receive_s=1.0)) as service:
        slow = [raw(service.url) for _ in range(20)]
        began = time.monotonic()
        for each in slow:
            each.sendall(start)
        assert service.answer()["answer"] == "first: Why?"
        for each in slow:
            received = b""
            while part := each.recv(4096):
                received += part
            assert b"408" in received
            each.close()
        assert 0.9 < time.monotonic() - began < 10
        assert service.answer()["answer"] == "first: Why?"


def test_a_request_that_broke_off_is_not_taken_for_a_whole_one() -> None:
    whole = b"kind=correction&value=The+rent+is+EUR+2%2C000+a+month"
    reached: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async def ask(*messages: Message) -> None:
        coming = iter(messages)

        async def receive() -> Message:
            return next(coming)

        scope = {"type": "http", "method": "POST", "path": "/rate", "client": ("127.0.0.1", 1)}
        await access({**scope, "headers": [(b"host", b"localhost")]}, receive, send)

    metrics = Metrics()
    access = Access(application, Site("contract_qa", Sessions()), Limits(), metrics)
    first = {"type": "http.request", "body": whole[:-16], "more_body": True}
    asyncio.run(ask(first, {"type": "http.disconnect"}))
    assert reached == []
    assert metrics.registry.get_sample_value("synth_dspy_responses_total", {"path": "other", "status": "499"}) == 1
    asyncio.run(ask(first, {"type": "http.request", "body": whole[-16:]}))
    assert len(reached) == 1


def test_a_connection_may_be_used_again(serve: Serve) -> None:
    with serve(limits=Limits(receive_s=0.5)) as service, raw(service.url) as connection:
        for pause in (0.0, 0.8, 0.8):
            time.sleep(pause)
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            reply = HTTPResponse(connection)
            reply.begin()
            reply.read()  # All of it: the head and the body may come as two pieces.
            assert reply.status == 200
        connection.sendall(b"GET /health HTTP/1.1\r\nHo")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_an_address_that_is_taken_is_named() -> None:
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(SetupError, match=r"cannot listen on 127\.0\.0\.1"):
            listen("127.0.0.1", taken.getsockname()[1])
