"""The parent's side of the sandbox's child process: starts, watches and ends it, and exchanges messages.

The child's messages are not trusted: they are JSON of bounded size
and depth that carry the token of the request that they answer. Threads, memory and files are counted here.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from synth_dspy.domains.functions.sandbox.folder import ScratchFolder
from synth_dspy.domains.functions.sandbox.nameless import mapped_files, removed_files
from synth_dspy.domains.functions.sandbox.seccomp import next_violation
from synth_dspy.domains.functions.sandbox.values import DEEPEST, is_deeper

OUT_OF_TURN = "answered something other than the request"
"""Why a child is stopped whose message does not answer the request. An earlier call may have caused it: try another."""

_CHILD = Path(__file__).with_name("child.py")
_LOOK = 0.05  # seconds between checks of the child's memory, threads and folder
_LONGEST = 8_000_000  # bytes of an answer
_MOST_THREADS = 1_000
_PROC = Path("/proc/self/task").is_dir()
_ENDING = 0.05  # seconds that a joined thread may take to leave the kernel's list


class ChildProcess:
    """A child process, started by the constructor.

    Args:
        settings: The child's settings: its module, functions and limits.
        memory: Bytes of memory that it may use.
        files: Bytes that its folder may contain.

    Attributes:
        layers: what the kernel enforces, as reported by the child.
        spent: seconds of calls so far, counted by the caller.
    """

    def __init__(self, settings: Mapping[str, Any], *, memory: int, files: int) -> None:
        import psutil  # type: ignore[import-untyped]

        self._folder = ScratchFolder()
        self.layers: dict[str, Any] = {}
        self.spent = 0.0
        self._settings = {**settings, "scratch": str(self.scratch)}
        self._memory, self._files = memory, files
        self._threads = 1
        self._listener: int | None = None
        self._look_at_maps = 0.0  # not before this time
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in `end`
        self._channel, theirs = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._channel, selectors.EVENT_READ)
        # As `-I`, without ignoring PYTHON* variables: none are inherited, and with a fixed hash seed the order of a
        # set, which a result may depend on, is the same in every child.
        with theirs:
            self._process = _start(
                [sys.executable, "-P", "-s", "-B", str(_CHILD), str(theirs.fileno()), str(os.getpid())],
                env=_environment(self.scratch),
                cwd=self.scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._watched = psutil.Process(self._process.pid)

    @property
    def scratch(self) -> Path:
        """The child's folder."""
        return self._folder.path

    def start(self, seconds: float) -> dict[str, Any]:
        """Wait until the child is ready for calls. Returns its first message."""
        self._channel.settimeout(seconds)
        token = secrets.token_hex(8)
        try:
            self._channel.sendall(json.dumps({**self._settings, "token": token}).encode() + b"\n")
            mark, descriptors, _, _ = socket.recv_fds(self._channel, 1, 1)
        except OSError:
            mark, descriptors = b"", []
        if not mark:
            return {"stopped": self._last_words()}
        if descriptors:
            self._listener = descriptors[0]
            self._selector.register(self._listener, selectors.EVENT_READ)
        ready = self._answer(token, seconds, refuse=True)
        self.layers = ready.get("layers", {})
        self._threads = self._count_threads()
        return ready

    def ask(self, message: Mapping[str, Any], seconds: float, *, refuse: bool = False) -> dict[str, Any]:
        """The child's answer; {"stopped": why} if there is none: then the child must be ended.

        Args:
            message: The request.
            seconds: How long the answer may take.
            refuse: Refuse what is forbidden, and let the child continue.
        """
        token = secrets.token_hex(8)
        try:
            self._channel.settimeout(seconds)
            self._channel.sendall(json.dumps({**message, "token": token}).encode() + b"\n")
        except OSError:
            return {"stopped": self._last_words()}
        return self._answer(token, seconds, refuse=refuse)

    def gone(self) -> bool:
        """Whether the process has ended, or has sent or attempted something unrequested."""
        return self._process.poll() is not None or bool(self._selector.select(0))

    def is_spoilt(self) -> bool:
        """Whether the next call needs a new child: this one's folder is full, or a thread continues after its call,
        and could act during the next one."""
        return self._has_new_threads() or self._is_full()

    def end(self) -> None:
        """Kill the process group, and remove the folder."""
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
        self._folder.remove()

    # -- messages ------------------------------------------------------------------------------------------------------

    def _answer(self, token: str, seconds: float, *, refuse: bool) -> dict[str, Any]:
        """The message that answers a token. A violation that the kernel reports stops the child, or is refused."""
        until = time.monotonic() + seconds
        received, look = bytearray(), time.monotonic() + _LOOK
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
                    return _parsed(bytes(received), token)
                if len(received) > _LONGEST:
                    return {"stopped": f"answered more than {_LONGEST // 1_000_000} MB"}
                if not part:
                    return {"stopped": self._last_words()}
            if time.monotonic() >= look:  # also while the child sends data all the time
                if overuse := self._overuse():
                    return {"stopped": overuse}
                look = time.monotonic() + _LOOK

    def _last_words(self) -> str:
        """Why a process ended that did not report a reason."""
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "closed the connection"
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            return "time" if status == -signal.SIGXCPU else "the process was killed"
        if status == -signal.SIGSYS:
            return "opened a network connection or started a process"
        self._errors.seek(0)
        lines = self._errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"the process ended ({how})" + (f": {lines[-1][:300]}" if lines else "")

    # -- resources -----------------------------------------------------------------------------------------------------

    def _overuse(self) -> str:
        """Checks what limits on address space and single files miss: they do not apply everywhere, nor to totals."""
        import psutil

        try:
            if self._watched.memory_info().rss > self._memory:
                return "memory"
            if self._count_threads() > _MOST_THREADS:
                return f"started more than {_MOST_THREADS:,} threads"
        except psutil.Error:
            return ""
        with self._paused():
            self._look_at_maps = 0.0
            return "file" if self._is_full() else ""

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        """Stop the child meanwhile, so that it cannot move files to folders that were already counted."""
        process, until = self._process.pid, time.monotonic() + _LOOK
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGSTOP)
            if sys.platform == "linux":
                flags = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
                while os.waitid(os.P_PID, process, flags) is None and time.monotonic() < until:
                    time.sleep(0.0005)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def _has_new_threads(self) -> bool:
        until = time.monotonic() + _ENDING
        while (count := self._count_threads()) > self._threads:
            if time.monotonic() >= until:
                return True
            time.sleep(0.001)
        self._threads = count
        return False

    def _count_threads(self) -> int:
        """The kernel's count: a call can change Python's own list of threads."""
        import psutil

        try:
            return len(os.listdir(f"/proc/{self._process.pid}/task")) if _PROC else int(self._watched.num_threads())
        except (OSError, psutil.Error):  # it has ended
            return 0

    def _is_full(self) -> bool:
        """Whether its folder and the removed files that it still uses exceed the limit."""
        total = self._folder.size(self._files)
        if total > self._files or not _PROC:
            return total > self._files
        removed = removed_files(self._process.pid)
        total += sum(removed.values())
        if total <= self._files and time.monotonic() >= self._look_at_maps:  # reading the list takes long
            self._look_at_maps = time.monotonic() + _LOOK
            total += 0 if mapped_files(self._process.pid, self._folder) <= removed.keys() else self._files + 1
        return total > self._files


_STARTING = threading.Lock()


def _start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process from a thread that lives as long as this process: the child ends when its parent thread does."""
    with _STARTING:
        thread = _starter(os.getpid())
    return thread.submit(lambda: subprocess.Popen(command, **options)).result()


@functools.cache
def _starter(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="sandbox")


def _parsed(line: bytes, token: str) -> dict[str, Any]:
    """A message of the child's, if it answers a token; else the reason to stop the child."""
    try:
        answer = _load(line)
        if b"\\ud" in line.lower():  # perhaps half a surrogate pair, which is not valid text and could not be stored
            answer = _load(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.pop("token", None) != token:
        return {"stopped": OUT_OF_TURN}
    if line.count(b"[") + line.count(b"{") > DEEPEST and is_deeper(answer, DEEPEST + 1):
        return {"stopped": f"answered with more than {DEEPEST} levels of nesting"}
    return answer


def _load(line: bytes) -> Any:
    return json.loads(line, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a JSON number")
    return number


def _environment(scratch: Path) -> dict[str, str]:
    """The child's whole environment. Numerical libraries get one thread, as each thread takes address space."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")}
    home = {"HOME": str(scratch), "TMPDIR": str(scratch), "PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}
    return {**kept, **threads, **home, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "2"}
