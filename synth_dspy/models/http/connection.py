"""A run's connection to its HTTP process: sends frames and returns futures, for threads and event loops."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import ModelError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.masking import mask_message
from synth_dspy.core.usage import ModelCall
from synth_dspy.models.http.process import HEADER, encode_frame


class Connection:
    """The parent's end of an HTTP process."""

    def __init__(self, ledger: Ledger | None) -> None:
        self._ledger = ledger
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        command = [sys.executable, "-m", "synth_dspy.models.http.process", str(theirs.fileno())]
        package = str(Path(__file__).resolve().parents[3])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        # A file, not a pipe: nobody reads it while the process runs, and a full pipe would block it.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        # Its own session: neither Ctrl-C nor killing the run's process group loses answers.
        self._process = subprocess.Popen(
            command + ([str(ledger.path.absolute())] if ledger else []),
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path},
            # Inherits no streams: a reader of a killed run's output must not wait for this process.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )
        theirs.close()
        self._socket = ours
        self._ids = itertools.count()
        self._pending: dict[int, tuple[Future[ModelCall], Callable[[dict[str, Any]], Exception]]] = {}
        self._lock = threading.Lock()
        self.ended = False
        threading.Thread(target=self._read, name="synth-dspy-http", daemon=True).start()

    def send(self, frame: dict[str, Any], error: Callable[[dict[str, Any]], Exception]) -> Future[ModelCall]:
        """Send a call; `error` makes the exception if it fails."""
        future: Future[ModelCall] = Future()
        with self._lock:
            identifier = next(self._ids)
            self._pending[identifier] = future, error
            try:
                self._socket.sendall(encode_frame({"id": identifier, **frame}))
            except OSError:
                self.ended = True
        if self.ended:
            self._fail_pending()
        return future

    def close(self) -> None:
        """Let the process end; calls in flight are still committed."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self._process.returncode = self._process.returncode or 0  # an orphan ends by itself; avoids a warning
        self._socket.close()
        self._stderr.close()

    def _read(self) -> None:
        buffer = bytearray()
        while True:
            try:
                data = self._socket.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                break
            buffer += data
            start = 0
            while len(buffer) - start >= HEADER.size:
                end = start + HEADER.size + HEADER.unpack_from(buffer, start)[0]
                if len(buffer) < end:
                    break
                self._receive(json.loads(buffer[start + HEADER.size : end]))
                start = end
            del buffer[:start]
        self.ended = True
        self._fail_pending()

    def _receive(self, frame: dict[str, Any]) -> None:
        with self._lock:
            waiting = self._pending.pop(frame["id"], None)
        answered_call = ModelCall.from_dict(frame["call"]) if "call" in frame else None
        if answered_call and self._ledger:
            self._ledger.mark_recorded(answered_call.key)
        if waiting is None:
            return  # given up when the connection was closed, while this answer was on its way
        future, error = waiting
        if not future.set_running_or_notify_cancel():
            return  # its caller was cancelled, but the answer is in the ledger
        if answered_call:
            future.set_result(answered_call)
            return
        try:
            future.set_exception(error(frame["error"]))
        except Exception as failed:  # the ledger could not be written
            future.set_exception(failed)

    def _fail_pending(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        stderr_lines: list[str] = []
        with contextlib.suppress(ValueError, subprocess.TimeoutExpired):  # closed by `close`; still running
            self._process.wait(timeout=1.0)
            self._stderr.seek(0)
            stderr_lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        why = f": {mask_message(stderr_lines[-1])}" if stderr_lines else "."
        for future, _ in pending.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(ModelError(f"The process that makes this run's HTTP calls ended{why}"))


_connections: dict[Path | None, Connection] = {}
_connecting = threading.Lock()


def connection(ledger: Ledger | None) -> Connection:
    """The HTTP process that commits to `ledger`, started at the first call."""
    path = ledger.path.absolute() if ledger else None
    with _connecting:
        existing = _connections.get(path)
        if existing is None or existing.ended:
            existing = _connections[path] = Connection(ledger)
            if ledger is not None:
                ledger.on_close(lambda: _close(path))
    return existing


@atexit.register
def _close_all() -> None:
    for path in list(_connections):
        _close(path)


def _close(path: Path | None) -> None:
    with _connecting:
        existing = _connections.pop(path, None)
    if existing is not None:
        existing.close()
