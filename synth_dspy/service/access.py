"""Who may ask, how much and how fast: keys, sizes, rates and times, before anything is read into the application.

Requests need one of the keys in SYNTH_DSPY_KEY, as `Authorization: Bearer KEY` or `X-API-Key: KEY`. Without one come:
`/health`, and callers on this machine that name it in `Host` and come through no proxy, since behind one every caller
looks local, and a page in a browser that has its name resolved to this machine would be one too. In a browser the key
is entered once, at `/login`, and a cookie stands for it from then on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from synth_dspy.core.addresses import is_this_machine
from synth_dspy.core.errors import SetupError
from synth_dspy.service.errors import ServiceError
from synth_dspy.service.pages.session import SESSION
from synth_dspy.service.pages.site import LOGIN, STATIC, Site
from synth_dspy.service.settings import Limits
from synth_dspy.service.telemetry import Metrics

KEY = "SYNTH_DSPY_KEY"
SHORTEST_KEY = 16
OPEN = ("/health", LOGIN, STATIC.format(name="style.css"), STATIC.format(name="pages.js"))
"""Paths that need no key."""
_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
_READ_ANYWAY = 8
"""A body that is too long is read up to so many times the limit, since a caller that is still sending may not read."""
_CALLERS = 10_000
_GONE = 499
"""The status in the figures, as nginx has it, of a request that broke off."""


def keys_from_environment() -> tuple[str, ...]:
    """The keys, separated by commas or blanks.

    Raises:
        SetupError: one is too short to be a secret.
    """
    keys = tuple(os.environ.get(KEY, "").replace(",", " ").split())
    if any(len(key) < SHORTEST_KEY for key in keys):
        raise SetupError(
            f"A key in {KEY} is shorter than {SHORTEST_KEY} characters: make one with openssl rand -hex 32."
        )
    return keys


def refuse_open_bind(host: str, keys: tuple[str, ...]) -> None:
    """Refuse to listen on a network without keys.

    Raises:
        SetupError: that is what was asked for.
    """
    if not keys and not is_this_machine(f"http://{f'[{host}]' if ':' in host else host}"):
        raise SetupError(
            f"Listening on {host} lets other machines in: set {KEY} to a key that they must send (several are "
            "separated by commas), or leave out --host."
        )


class Access:
    """Middleware with the limits.

    Args:
        app: what is protected.
        site: knows the keys of callers from other machines, and shows refusals to browsers.
        limits: see there.
        metrics: counts responses.
    """

    def __init__(self, app: ASGIApp, site: Site, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._site = site
        self._limits = limits
        self._metrics = metrics
        self._rates = Rates(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._admit(scope, headers)
            body = await self._body(headers, receive)
            if body is None:
                status = _GONE
                return
            await self._app(scope, _replaying(body, receive), sending)
        except ServiceError as refusal:
            await self._site.refusal(HTTPConnection(scope), refusal)(scope, receive, sending)
        finally:
            path = getattr(scope.get("route"), "path", "other")  # callers make paths up
            self._metrics.responses.labels(path, status).inc()
            self._metrics.http.labels(path).observe(time.perf_counter() - began)

    def _admit(self, scope: Scope, headers: Headers) -> None:
        client = scope["client"][0] if scope.get("client") else ""
        if _is_local(client, headers):
            return
        if scope["path"] in OPEN:
            if scope["method"] == "POST":  # a key is tried
                self._rates.take(client)
            return
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ").strip()
        if self._site.sessions.key(given) is not None:
            self._rates.take(f"key {given}")
            return
        cookies = HTTPConnection(scope).cookies
        if self._site.sessions.is_open(cookies):
            self._rates.take(f"session {cookies[SESSION]}")
            return
        self._rates.take(client)  # whoever tries keys is slowed down as any other
        what = "The key is wrong: send one of those" if given else "A key is needed: send one of those"
        raise ServiceError(
            401,
            f"{what} in the service's {KEY}, as Authorization: Bearer KEY or as X-API-Key: KEY.",
            headers={"WWW-Authenticate": "Bearer"},
        )

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body; None where the connection broke before its end.

        Raises:
            ServiceError: it is too long, or comes too slowly.
        """
        most = self._limits.body_bytes
        too_long = ServiceError(
            413, f"The body is longer than {most:,} bytes (serve --max-body-kb).", headers={"Connection": "close"}
        )
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > most and "expect" in headers:
            raise too_long
        parts: list[bytes] = []
        length = 0
        try:
            async with asyncio.timeout(self._limits.receive_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    part = message.get("body", b"")
                    length += len(part)
                    if length <= most:
                        parts.append(part)
                    elif length > most * _READ_ANYWAY:
                        break
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise ServiceError(
                408,
                f"The request had not arrived after {self._limits.receive_s:g} seconds.",
                headers={"Connection": "close"},
            ) from None
        if length > most:
            raise too_long
        return b"".join(parts)


class Rates:
    """Requests of each caller in a minute: a bucket of tokens that fills evenly.

    Args:
        per_minute: tokens; 0: any number.
    """

    def __init__(self, per_minute: int) -> None:
        self._most = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Take a token.

        Raises:
            ServiceError: there is none; says when there will be one.
        """
        if not self._most:
            return
        now = time.monotonic()
        tokens, at = self._buckets.pop(caller, (float(self._most), now))
        tokens = min(self._most, tokens + (now - at) * self._most / 60)
        self._buckets[caller] = (max(0.0, tokens - 1), now)
        while len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            wait = max(1, round((1 - tokens) * 60 / self._most + 0.5))
            raise ServiceError(
                429,
                f"More than {self._most} requests a minute: try again in {wait} s.",
                headers={"Retry-After": str(wait)},
            )


def _is_local(client: str, headers: Headers) -> bool:
    """Whether a caller is on this machine, and says so."""
    try:
        local = ipaddress.ip_address(client).is_loopback
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:  # what is no address, or no host
        return False
    named = is_this_machine(f"http://{f'[{host}]' if ':' in host else host}")
    return local and named and not any(name in headers for name in _PROXIED)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        message: dict[str, Any] = {"type": "http.request", "body": body, "more_body": False}
        return message

    return replay
