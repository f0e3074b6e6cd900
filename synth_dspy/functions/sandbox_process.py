"""The sandbox's child as its parent holds it: started, asked, watched, ended."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth_dspy.functions.sandbox_limits import next_violation

_CHILD = Path(__file__).with_name("sandbox_child.py")
_LOOK = 0.05  # seconds between looks at the child's memory and folder
_LONGEST = 16_000_000  # bytes of an answer


class ChildProcess:
    """One child, running from here on.

    Args:
        settings: What the child is told: its module, functions and limits.
        memory: Bytes of memory that it may hold.
        files: Bytes that its folder may hold.

    Attributes:
        scratch: its folder.
        layers: what the kernel enforces, as the child found it.
        spent: seconds of calls so far, for whoever counts them.
    """

    def __init__(self, settings: Mapping[str, Any], *, memory: int, files: int) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="sandbox-")).resolve()
        self.layers: dict[str, Any] = {}
        self.spent = 0.0
        self._settings = {**settings, "scratch": str(self.scratch)}
        self._memory, self._files = memory, files
        self._listener: int | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in `end`
        self._channel, theirs = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._channel, selectors.EVENT_READ)
        # As `-I`, without ignoring PYTHON* variables: none is inherited, and with the hash seed fixed the order of a
        # set, which a result may depend on, is the same in every child.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-B", str(_CHILD), str(theirs.fileno())],
                env=_environment(self.scratch),
                cwd=self.scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, seconds: float) -> dict[str, Any]:
        """Wait until the module is imported. Returns the child's first message."""
        self._channel.settimeout(seconds)
        try:
            self._channel.sendall(json.dumps(self._settings).encode() + b"\n")
            mark, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
        except OSError:
            mark, descriptors = b"", []
        if not mark:
            return {"stopped": self._last_words()}
        if descriptors:
            self._listener = descriptors[0]
            self._selector.register(self._listener, selectors.EVENT_READ)
        ready = self._answer(seconds, refuse=True)
        self.layers = ready.get("layers", {})
        return ready

    def ask(self, message: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The child's answer; {"stopped": why} where there is none, and the child is to be ended."""
        try:
            self._channel.settimeout(seconds)
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return {"stopped": self._last_words()}
        return self._answer(seconds)

    def gone(self) -> bool:
        """Whether the process has ended, or said or tried something that it was not asked for."""
        return self._process.poll() is not None or bool(self._selector.select(0))

    def is_full(self) -> bool:
        """Whether its folder, with the removed files that it still has open, holds more than it may."""
        return _size(self.scratch, self._files) + _removed(self._process.pid) > self._files

    def end(self) -> None:
        """Kill the process with all it may have started, and remove its folder."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._selector.close()
        self._channel.close()
        self._errors.close()
        if self._listener is not None:
            os.close(self._listener)
            self._listener = None
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _answer(self, seconds: float, *, refuse: bool = False) -> dict[str, Any]:
        """The next message. What the kernel finds the child trying ends it, or is refused."""
        until = time.monotonic() + seconds
        received, look = b"", time.monotonic() + _LOOK
        while True:
            if time.monotonic() >= until:
                return {"stopped": "time"}
            ready = {key.fd for key, _ in self._selector.select(max(0.0, min(until, look) - time.monotonic()))}
            if self._listener in ready:
                violation = next_violation(self._listener or 0, refuse=refuse)
                if violation and not refuse:
                    return {"stopped": violation}
            if self._channel.fileno() in ready:
                part = self._channel.recv(1 << 16)
                received += part
                if received.endswith(b"\n"):
                    return _parsed(received)
                if len(received) > _LONGEST:
                    return {"stopped": f"answered more than {_LONGEST >> 20} MB"}
                if not part:
                    return {"stopped": self._last_words()}
            if time.monotonic() >= look:  # also while the child keeps this side busy
                if overuse := self._overuse():
                    return {"stopped": overuse}
                look = time.monotonic() + _LOOK

    def _overuse(self) -> str:
        """What the limits on address space and on each file let pass: they do not bind everywhere, or add up."""
        import psutil  # type: ignore[import-untyped]

        try:
            if psutil.Process(self._process.pid).memory_info().rss > self._memory:
                return "memory"
        except psutil.Error:
            return ""
        return "file" if self.is_full() else ""

    def _last_words(self) -> str:
        """Why a process ended that has not said it."""
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "hung up"
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            return "time" if status == -signal.SIGXCPU else "the process was killed"
        if status == -signal.SIGSYS:
            return "opened a network connection or started a process"
        self._errors.seek(0)
        lines = self._errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"the process ended ({how})" + (f": {lines[-1][:300]}" if lines else "")


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
        if b"\\ud" in line.lower():  # perhaps half a surrogate pair, which is no text and could not be written down
            answer = json.loads(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        answer = None
    return answer if isinstance(answer, dict) else {"stopped": "answered something else than JSON"}


def _environment(scratch: Path) -> dict[str, str]:
    """All that the child has of an environment. One thread for numerical libraries: each takes address space."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")}
    home = {"HOME": str(scratch), "TMPDIR": str(scratch), "PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}
    return {**kept, **threads, **home, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "2"}


def _size(folder: Path, most: int) -> int:
    """Bytes that the files below a folder take, each at least a block, counted as far as `most`."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += max(os.lstat(os.path.join(parent, name)).st_size, 4096)
            if total > most:
                return total
    return total


def _removed(process: int) -> int:
    """Bytes of the files that a process has open and that have no name any more; 0 where there is no /proc."""
    sizes: dict[tuple[int, int], int] = {}
    with contextlib.suppress(OSError):
        for descriptor in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                status = descriptor.stat()
                if stat.S_ISREG(status.st_mode) and status.st_nlink == 0:
                    sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())
