"""A loopback server that answers chats as a test says, and embeds and lists models as a server should."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MESSAGE = {"role": "assistant", "content": "Oregon"}


@dataclass
class Reply:
    """What is sent: a status, a body, and headers. A `length` other than the body's is sent where it is set."""

    body: str | bytes = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


def chat(message: Any = MESSAGE, *, finish: Any = "stop", **more: Any) -> str:
    """A chat completion with this message."""
    return json.dumps({"choices": [{"index": 0, "finish_reason": finish, "message": message}], **more})


@dataclass
class Recorded:
    """The server's address, and the headers of every chat that it was asked."""

    url: str
    headers: list[dict[str, str]]


@contextmanager
def answering(reply: Callable[[dict[str, str]], Reply]) -> Iterator[Recorded]:
    """A server whose chats are answered by `reply`, which is given the request's headers."""
    record = Recorded("", [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(Reply(json.dumps({"data": [{"id": "mock"}]})))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/embeddings"):
                data = [{"index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(body["input"])]
                usage = {"prompt_tokens": 1, "total_tokens": 1}
                self.send(Reply(json.dumps({"object": "list", "model": "mock", "data": data, "usage": usage})))
                return
            record.headers.append(dict(self.headers))
            self.send(reply(dict(self.headers)))

        def send(self, reply: Reply) -> None:
            data = reply.body.encode() if isinstance(reply.body, str) else reply.body
            self.send_response(reply.status)
            headers = {"Content-Length": str(len(data) if reply.length is None else reply.length), **reply.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(data)
            except OSError:  # the client has read as much as it wants
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        record.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield record
        server.shutdown()
