"""Runs the application in uvicorn, in this process, until it is told to stop; requests that have begun end first."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from synth_dspy.core.errors import SetupError
from synth_dspy.service.settings import Limits

_SWITCH_S = 0.001
"""How long a thread that computes may keep the interpreter while the event loop waits for it; Python's own is 5 ms."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        SetupError: the address is taken, or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        why = getattr(error, "strerror", None) or error
        raise SetupError(f"The service cannot listen on {host}, port {port} ({why}): choose another --port.") from error
    return made


def place_of(listening: socket.socket) -> str:
    """A listening socket's address, for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def make_server(app: FastAPI, limits: Limits, started: Callable[[], None]) -> uvicorn.Server:
    """A server whose `run(sockets=[...])` ends with SIGTERM or Ctrl-C, once what has begun is finished.

    Args:
        app: the application.
        limits: of time.
        started: called once requests are answered.
    """
    config = uvicorn.Config(
        app,
        http=_impatient(limits.receive_s),
        log_config=None,
        access_log=False,
        proxy_headers=False,  # who a caller is, no header says: see access.py
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(limits.answer_s) + 5,
        ws="none",
    )
    return _Server(config, started)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        sys.setswitchinterval(_SWITCH_S)
        await super().startup(sockets)
        if self.started:
            self._announce()


def _impatient(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which waits for headers without end, with an end."""

    class Impatient(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(seconds, self._give_up)

        def data_received(self, data: bytes) -> None:
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):  # a next request begins
                self._timer = self.loop.call_later(seconds, self._give_up)
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_timer()  # the headers are there; the application times the body

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if self.transport is not None and not self.transport.is_closing():
                message = f"The request had not arrived after {seconds:g} seconds."
                body = f'{{"error": {{"message": "{message}", "type": "request_timeout"}}}}'.encode()
                head = (
                    f"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                )
                self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)
                self.transport.close()

    return Impatient
