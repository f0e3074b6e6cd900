"""A loopback server that speaks the OpenAI chat protocol and misbehaves on request.

As a module it serves until it is killed: `python tests/servers.py '{"latency_s": 0.05}'` prints its port on the first
line. It logs to `log` a line for every request it answered completely: the SHA-256 of the request's body.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

CHAT_REPLY = "[[ ## answer ## ]]\nanswer {n}\n\n[[ ## completed ## ]]"


@dataclass
class Behaviour:
    """How the server answers. `script` holds what is done to the first requests, in order: `ok`, `429`, `500`, `503`,
    `401`, `404`, `context`, `timeout`, `drop`, `malformed`, `no_choices`; afterwards, and where it is empty, requests
    are answered, but for a share `refused` of each request's first attempts, which get 429. `respond` makes a reply of
    the request's body, in place of `reply`."""

    latency_s: float = 0.0
    reply: str = CHAT_REPLY
    script: list[str] = field(default_factory=list)
    refused: float = 0.0
    retry_after: str | None = "1"
    log: str | None = None
    models: list[str] = field(default_factory=list)
    finish_reason: str = "stop"
    prompt_tokens: int = 10
    completion_tokens: int = 5
    respond: Callable[[dict[str, Any]], str] | None = None


class Server:
    """The server's state: what was asked, what was answered, how many at once."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = 0
        self.most_under_way = 0
        self.port = 0
        self._script = list(behaviour.script)
        self._random = random.Random(0)
        self._log = open(behaviour.log, "a", buffering=1) if behaviour.log else None  # noqa: SIM115

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        key = hashlib.sha256(body).hexdigest()
        self.asked[key] += 1
        if self._log is None:
            self.requests.append(json.loads(body))
            self.headers.append(dict(request.headers))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._answer(request, body, key)
        finally:
            self.under_way -= 1

    async def _answer(self, request: web.Request, body: bytes, key: str) -> web.StreamResponse:
        action = self._script.pop(0) if self._script else "ok"
        if action == "ok" and self.asked[key] == 1 and self._random.random() < self.behaviour.refused:
            action = "429"
        if action.isdigit():
            headers = {"Retry-After": self.behaviour.retry_after} if self.behaviour.retry_after else {}
            message = {"error": {"message": f"status {action} on purpose", "type": "test", "code": None}}
            return web.json_response(message, status=int(action), headers=headers)
        if action == "context":
            error = {"message": "maximum context length is 8 tokens", "code": "context_length_exceeded"}
            return web.json_response({"error": error}, status=400)
        if action == "timeout":
            await asyncio.sleep(30)
        await asyncio.sleep(self.behaviour.latency_s)
        if action == "drop":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if action == "malformed":
            return web.Response(text='{"choices": [{"mess', content_type="application/json")
        if action == "no_choices":
            return web.json_response({"object": "chat.completion"})
        number = self.answered.total()
        respond = self.behaviour.respond
        reply = self.behaviour.reply.replace("{n}", key[:8]) if respond is None else respond(json.loads(body))
        message = {"role": "assistant", "content": reply}
        response = web.json_response(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion",
                "created": 0,
                "model": "mock",
                "choices": [{"index": 0, "finish_reason": self.behaviour.finish_reason, "message": message}],
                "usage": {
                    "prompt_tokens": self.behaviour.prompt_tokens,
                    "completion_tokens": self.behaviour.completion_tokens,
                    "total_tokens": self.behaviour.prompt_tokens + self.behaviour.completion_tokens,
                },
            }
        )
        await response.prepare(request)
        self.answered[key] += 1  # before the last byte: whoever has the answer may look
        await response.write_eof()
        if self._log is not None:
            self._log.write(key + "\n")
        return response

    async def converse(self, request: web.Request) -> web.Response:
        """The same reply in the protocol of Amazon Bedrock."""
        self.requests.append({"model": request.match_info["model"], **await request.json()})
        message = {"role": "assistant", "content": [{"text": self.behaviour.reply.replace("{n}", "0")}]}
        usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        return web.json_response({"output": {"message": message}, "stopReason": "end_turn", "usage": usage})

    async def list_models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self.behaviour.models]})

    async def embed(self, request: web.Request) -> web.Response:
        """Each text as the vector (its length, 1), not normalised."""
        texts = (await request.json())["input"]
        data = [{"index": i, "object": "embedding", "embedding": [len(t), 1.0]} for i, t in enumerate(texts)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"object": "list", "model": "mock", "data": data, "usage": usage})

    async def start(self, port: int = 0) -> web.AppRunner:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_post("/v1/chat/completions", self.handle)
        application.router.add_get("/v1/models", self.list_models)
        application.router.add_post("/v1/embeddings", self.embed)
        application.router.add_post("/model/{model}/converse", self.converse)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.port = runner.addresses[0][1]
        return runner


@contextlib.contextmanager
def serving(behaviour: Behaviour | None = None) -> Iterator[Server]:
    """A server in a thread of this process."""
    server = Server(behaviour or Behaviour())
    loop = asyncio.new_event_loop()
    runner = loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextlib.contextmanager
def running(application: web.Application) -> Iterator[int]:
    """An application in a thread of this process; its port."""
    loop, runner = asyncio.new_event_loop(), web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield runner.addresses[0][1]
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def command(behaviour: Behaviour) -> list[str]:
    """The command that serves in a process of its own."""
    return [sys.executable, str(Path(__file__).resolve()), json.dumps(asdict(behaviour))]


async def _main() -> None:
    server = Server(Behaviour(**json.loads(sys.argv[1])))
    await server.start()
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
