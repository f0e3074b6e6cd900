"""The process that makes a run's HTTP calls and commits their answers: `python -m synth_dspy.models.http.process`.

A run's other processes may be killed at any moment. This one does nothing but I/O, so an answer is in the ledger within
a millisecond of its last byte. When its parent dies, it sends no more requests, waits for the answers in flight,
commits them, and exits: what an endpoint has answered (and billed) is never requested again.

The protocol is frames on a socket: four bytes of length, then JSON. The process imports nothing heavy, starts in a
fraction of a second, and keeps keys only in memory.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import signal
import socket
import sqlite3
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from synth_dspy.core.io.locks import DRAIN_S, http_lock, lock_file
from synth_dspy.core.ledger import connect, insert
from synth_dspy.core.masking import environment_secrets, mask_message, mask_reply, url_secrets
from synth_dspy.core.usage import ModelCall
from synth_dspy.models.completion import completion

HEADER = struct.Struct("!I")
RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_WAIT_S = 60.0
SHOWN = 20_000
"""Maximum number of characters of a server's message that are passed on."""
PROXIES = environment_secrets({name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")})


class HttpProcess:
    """Receives frames, makes the calls, commits the answers, and replies with frames."""

    def __init__(
        self, db: sqlite3.Connection | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.db = db
        self.reader = reader
        self.writer = writer
        self.slots: dict[tuple[str, int], asyncio.Semaphore] = {}
        self.waiting: set[asyncio.Task[None]] = set()
        self.sending: set[asyncio.Task[None]] = set()
        self.orphaned = False
        self.unusable: str | None = None
        """Why the ledger cannot be written: then no calls are made, since answers would be lost."""

    async def serve(self) -> None:
        """Serve until the parent closes its end, then finish the calls in flight."""
        timeout = aiohttp.ClientTimeout(total=None)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as self.session:
            while (frame := await read_frame(self.reader)) is not None:
                task = asyncio.create_task(self.call(frame))
                self.waiting.add(task)
                task.add_done_callback(self.waiting.discard)
            self.orphaned = True
            for task in self.waiting - self.sending:
                task.cancel()
            await asyncio.gather(*self.waiting, return_exceptions=True)

    async def call(self, frame: dict[str, Any]) -> None:
        """Make one call, with its retries, and report its answer or its error."""
        call = ModelCall.from_dict(frame["call"])
        connections, attempts = frame["connections"], frame["attempts"]
        # Roles share an endpoint's connections if they have the same limit.
        slots = self.slots.setdefault((frame["url"], connections), asyncio.Semaphore(connections))
        for attempt in range(1, attempts + 1):
            async with slots:
                outcome = await self.attempt(frame, replace(call, attempts=attempt))
            if isinstance(outcome, ModelCall):
                self.reply({"id": frame["id"], "call": outcome.to_dict()})
                return
            # Mask secrets in a server's message, and bound its length.
            outcome["message"] = mask_message(outcome["message"][: 2 * SHOWN], sent_secrets(frame))[:SHOWN]
            outcome["attempts"] = attempt
            if not outcome.pop("retry") or attempt == attempts or self.orphaned:
                break
            # The slot is released while this call waits, so that it does not stall others.
            await asyncio.sleep(backoff(attempt, outcome["retry_after"]))
        self.reply({"id": frame["id"], "error": outcome})

    async def attempt(self, frame: dict[str, Any], call: ModelCall) -> ModelCall | dict[str, Any]:
        """One attempt: returns the committed call, or a failure that says whether to retry."""
        if self.unusable is not None:
            return failure("ledger", self.unusable, None, None, retry=False)
        task = asyncio.current_task()
        assert task is not None
        self.sending.add(task)
        started = time.perf_counter()
        status, retry_after = None, None
        try:
            timeout = aiohttp.ClientTimeout(total=frame["timeout"], sock_connect=min(frame["timeout"], 10.0))
            body = frame["body"].encode("utf-8")
            # Redirects are not followed: key and texts go only to the address that the user named.
            async with self.session.post(
                frame["url"], data=body, headers=frame["headers"], timeout=timeout, allow_redirects=False
            ) as response:
                status = response.status
                retry_after = retry_after_s(response.headers.get("Retry-After"))
                location = response.headers.get("Location", "")
                text = await read_text(response, frame["max_bytes"])
            if 300 <= status < 400:
                return failure("redirect", location, status, None, retry=False)
            if status != 200:
                return failure("status", text, status, retry_after, retry=status in RETRYABLE)
            text, usage = completion(mask_reply(text, sent_secrets(frame)))
            call = replace(
                call,
                response=text,
                latency_s=time.perf_counter() - started,
                input_tokens=usage.get("prompt_tokens"),
                output_tokens=usage.get("completion_tokens"),
            )
            if frame["prices"] and call.input_tokens is not None and call.output_tokens is not None:
                price_in, price_out = frame["prices"]
                call = replace(call, cost_usd=call.input_tokens * price_in + call.output_tokens * price_out)
            if self.db is not None:
                insert(self.db, call)
            return call
        except TimeoutError:
            return failure("timeout", f"no answer within {frame['timeout']:g} s", status, None, retry=True)
        # Before ValueError, of which these are subclasses.
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            return failure("unreachable", f"{error} is not an address", status, None, retry=False)
        except aiohttp.ClientConnectorCertificateError as error:
            return failure("unreachable", str(error.certificate_error), status, None, retry=False)
        except aiohttp.ClientConnectorError as error:
            return failure("unreachable", str(error.os_error), status, None, retry=True)
        except (aiohttp.ClientError, OSError) as error:
            return failure("dropped", str(error) or type(error).__name__, status, None, retry=True)
        except ValueError as error:
            return failure("malformed", str(error), status, retry_after, retry=True)
        except sqlite3.Error as error:
            self.unusable = str(error)
            return failure("ledger", self.unusable, status, None, retry=False)
        except Exception as error:  # without a reply, the caller would wait for ever
            return failure("unexpected", f"{type(error).__name__}: {error}", status, retry_after, retry=True)
        finally:
            self.sending.discard(task)

    def reply(self, frame: dict[str, Any]) -> None:
        if not self.orphaned:
            self.writer.write(encode_frame(frame))


def failure(kind: str, message: str, status: int | None, retry_after: float | None, *, retry: bool) -> dict[str, Any]:
    return {"kind": kind, "message": message, "status": status, "retry_after": retry_after, "retry": retry}


async def read_text(response: aiohttp.ClientResponse, limit: int) -> str:
    """Read the text of a reply.

    Raises:
        ValueError: it is longer than `limit` bytes after decompression; the rest is not read.
    """
    data = bytearray()
    async for chunk in response.content.iter_chunked(1 << 16):
        data += chunk
        if len(data) > limit:
            response.close()
            raise ValueError(f"the reply is longer than {limit / 1e6:g} MB (--models.max-reply-mb)")
    return data.decode("utf-8", "replace")


def sent_secrets(frame: dict[str, Any]) -> tuple[str, ...]:
    """Secrets that are sent to an endpoint or a proxy, and might be echoed."""
    credentials = frame["headers"].get("Authorization", "").removeprefix("Bearer ")
    return (*filter(None, [credentials]), *url_secrets(frame["url"]), *PROXIES)


def retry_after_s(value: str | None) -> float | None:
    """Seconds to wait according to a `Retry-After` header, which is a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def backoff(attempt: int, retry_after: float | None) -> float:
    """Seconds before the next attempt: the server's `Retry-After`, or exponential back-off; both with jitter."""
    if retry_after is not None:
        return min(retry_after, MAX_WAIT_S) + random.uniform(0.0, 0.1 * min(retry_after, MAX_WAIT_S) + 0.01)
    return random.uniform(0.5, 1.0) * min(0.5 * 2.0 ** (attempt - 1), MAX_WAIT_S)


def encode_frame(frame: dict[str, Any]) -> bytes:
    data = json.dumps(frame, ensure_ascii=False).encode("utf-8")
    return HEADER.pack(len(data)) + data


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next frame, or None at the end."""
    try:
        (length,) = HEADER.unpack(await reader.readexactly(HEADER.size))
        frame: dict[str, Any] = json.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return frame


async def main(fd: int, ledger: Path | None) -> None:
    lock, db, unusable = None, None, None
    if ledger is not None:
        try:
            lock = lock_file(http_lock(ledger), wait_s=DRAIN_S)
            db = connect(ledger)
        except (OSError, sqlite3.Error) as error:
            unusable = str(error)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd), limit=1 << 22)
    process = HttpProcess(db, reader, writer)
    process.unusable = unusable
    await process.serve()
    if db is not None:
        db.close()
    if lock is not None:
        os.close(lock)


if __name__ == "__main__":
    # The parent handles Ctrl-C; this process ends after it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
