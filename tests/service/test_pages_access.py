"""Pages of the service: who is let in, and which forms are taken."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from served import Serve

from synth_dspy.service.pages.session import SESSION, Sessions, new_visitor
from synth_dspy.service.settings import Limits

KEYS = ("k" * 32, "l" * 32)
FAR = {"X-Forwarded-For": "203.0.113.9", "Accept": "text/html"}


def token(page: httpx.Response) -> str:
    """The token of a page's forms."""
    found = re.search(r'name="token" value="([0-9a-f]{64})"', page.text)
    assert found is not None, page.text
    return found[1]


def sign_in(client: httpx.Client, key: str, **more: Any) -> httpx.Response:
    page = client.get("/login", params=more, headers=FAR)
    form = {"token": token(page), "key": key, "name": "ann", "next": more.get("next", "/")}
    return client.post("/login", data=form, headers=FAR)


def test_a_browser_is_asked_for_the_key_once(serve: Serve) -> None:
    with serve(keys=KEYS) as service:
        refused = service.client.get("/metrics?a=1", headers=FAR)
        assert (refused.status_code, refused.headers["location"]) == (303, "/login?next=/metrics%3Fa%3D1")
        wrong = sign_in(service.client, KEYS[0][:-1])
        assert wrong.status_code == 401
        assert "The key is wrong" in wrong.text
        right = sign_in(service.client, KEYS[1], next="/metrics?a=1")
        assert (right.status_code, right.headers["location"]) == (303, "/metrics?a=1")
        for cookie in right.headers.get_list("set-cookie"):
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert KEYS[1] not in cookie
        assert service.client.get("/metrics", headers=FAR).status_code == 200
        service.client.cookies.set(SESSION, service.client.cookies[SESSION][:-1] + "x", domain="127.0.0.1")
    with serve(keys=KEYS) as service:
        assert service.client.get("/metrics", headers=FAR).status_code == 303


def test_a_session_ends_with_its_time_its_key_and_its_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions, visitor = Sessions(KEYS), new_visitor()
    cookies = {"synth_dspy_visitor": visitor, SESSION: sessions.open(visitor, KEYS[0].encode())}
    assert sessions.is_open(cookies)
    assert Sessions(KEYS[::-1]).is_open(cookies)
    assert not Sessions(KEYS[1:]).is_open(cookies)
    assert not sessions.is_open(cookies | {"synth_dspy_visitor": new_visitor()})
    ends, _, signature = cookies[SESSION].partition(".")
    assert not sessions.is_open(cookies | {SESSION: f"{int(ends) + 1}.{signature}"})
    for broken in ("", ".", "1.", "\u00b2.x", "9" * 5000 + ".x", f"{ends}.\u00e9"):
        assert not sessions.is_open(cookies | {SESSION: broken})
    monkeypatch.setattr("time.time", lambda: int(ends) + 1)
    assert not sessions.is_open(cookies)


def test_whoever_tries_keys_on_the_page_is_slowed_down(serve: Serve) -> None:
    with serve(keys=KEYS, limits=Limits(rate=3)) as service:
        assert [sign_in(service.client, "wrong" * 5).status_code for _ in range(4)] == [401] * 3 + [429]


@pytest.mark.parametrize("change", [{"token": ""}, {"token": "0" * 64}, "no cookie", "json"])
def test_a_form_without_the_pages_token_is_refused(serve: Serve, change: Any) -> None:
    with serve(keys=KEYS) as service:
        form = {"token": token(service.client.get("/login")), "name": "bob", "next": "/"}
        if change == "no cookie":
            service.client.cookies.clear()
        if change == "json":
            assert service.client.post("/login", json=form).status_code == 415
            return
        form |= change if isinstance(change, dict) else {}
        refused = service.client.post("/login", data=form, headers={"Accept": "text/html"})
        assert refused.status_code == 403
        assert "nothing was changed" in refused.text
        assert "synth_dspy_name" not in refused.headers.get("set-cookie", "")


@pytest.mark.parametrize("to", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""])
def test_nobody_is_led_to_another_site(serve: Serve, to: str) -> None:
    with serve(keys=KEYS) as service:
        assert sign_in(service.client, KEYS[0], next=to).headers["location"] == "/"


def test_pages_take_nothing_from_elsewhere(serve: Serve) -> None:
    with serve() as service:
        page = service.client.get("/login?next=/%22%3E%3Cscript%3E")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert "<script>" not in page.text
        for path in re.findall(r'(?:href|src)="([^"]+)"', page.text):
            assert path.startswith(("/", "#", "data:,"))
            assert not path.startswith("//")
        assert service.client.get("/pages/style.css").headers["content-type"].startswith("text/css")
        assert service.client.get("/pages/..%2fsite.py").status_code == 404
        missing = service.client.get("/<b>", headers={"Accept": "text/html"})
        assert missing.status_code == 404
        assert "There is nothing at /&lt;b&gt;" in missing.text.replace("%3C", "&lt;").replace("%3E", "&gt;")
