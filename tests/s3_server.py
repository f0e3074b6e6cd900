"""An S3 server on loopback: nanio, which checks signatures and knows multipart uploads, with what it lacks.

Conditional requests (`If-Match`, `If-None-Match`) are answered as S3's documentation says, and a test may have requests
refused with any of S3's errors. As a module it serves until it is killed: `python tests/s3_server.py FOLDER` prints its
port on the first line.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from nanio.app import build_app
from nanio.auth.credentials import StaticCredentialResolver
from nanio.config import Settings
from nanio.errors import S3Error

if TYPE_CHECKING:
    import pytest

KEY, SECRET = "AKIAEXAMPLE", "an example of a secret key"
BUCKET = "bucket"


@dataclass
class Refusal:
    """How requests are refused: those of `method` (all if empty) whose path ends with `path`, at most `times`."""

    code: str
    status: int = 400
    method: str = ""
    path: str = ""
    times: int = 1_000_000
    headers: dict[str, str] = field(default_factory=dict)
    text: str = "refused"


class Store:
    """The server's state: what was requested, and what the next requests meet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.refusals: list[Refusal] = []
        self.before: Callable[[str, str], None] | None = None
        self.port = 0
        settings = Settings(data_dir=folder, credentials=StaticCredentialResolver({KEY: SECRET}))
        self._app = build_app(settings)
        self._lock: asyncio.Lock | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def requested(self, method: str, end: str = "") -> list[str]:
        """Paths of the requests with a method that end so."""
        return [path for verb, path, _ in self.requests if verb == method and path.endswith(end)]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        self.requests.append((method, path, headers))
        if self.before is not None:
            self.before(method, path)
        for refusal in self.refusals:
            if refusal.times and refusal.method in ("", method) and path.endswith(refusal.path):
                refusal.times -= 1
                while (await receive()).get("more_body"):  # else it would be taken for the next request
                    pass
                await _reply(send, refusal.status, refusal.code, refusal.text, refusal.headers)
                return
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:  # so that no other write comes between a condition and what depends on it
            if self._fails(path, headers):
                while (await receive()).get("more_body"):
                    pass
                await _reply(send, 412, "PreconditionFailed", "At least one of the pre-conditions did not hold", {})
                return
            await self._app(scope, receive, send)

    def _fails(self, path: str, headers: dict[str, str]) -> bool:
        if not {"if-match", "if-none-match"} & headers.keys():
            return False
        bucket, _, key = path.lstrip("/").partition("/")
        try:
            etag = self._app.state.storage.head_object(bucket, key).etag
        except S3Error:
            return "if-match" in headers
        return headers.get("if-none-match") == "*" or headers.get("if-match", etag) != etag


async def _reply(send: Any, status: int, code: str, text: str, headers: dict[str, str]) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
    sent = [(b"content-type", b"application/xml"), (b"content-length", str(len(body)).encode())]
    sent += [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str = BUCKET) -> Iterator[str]:
    """Run the server with one bucket; its address."""
    with serving(folder, bucket) as store:
        yield store.environment["AWS_ENDPOINT_URL_S3"]


@contextlib.contextmanager
def account(**addresses: str) -> Iterator[pytest.MonkeyPatch]:
    """This process's AWS account, with services at these addresses: `account(S3=..., BEDROCK_RUNTIME=...)`."""
    import pytest

    from synth_dspy.core import aws

    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_REGION", "us-east-1")
        for service, address in addresses.items():
            patch.setenv(f"AWS_ENDPOINT_URL_{service}", address)
        aws._client.cache_clear()
        yield patch
        aws._client.cache_clear()


@contextlib.contextmanager
def serving(folder: Path, bucket: str = BUCKET) -> Iterator[Store]:
    """A server with an empty bucket, in a thread."""
    (folder / bucket).mkdir(parents=True, exist_ok=True)
    store = Store(folder)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        store.port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(store, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield store
        server.should_exit = True
        thread.join(10)


if __name__ == "__main__":
    with serving(Path(sys.argv[1])) as running:
        print(running.port, flush=True)
        threading.Event().wait()
