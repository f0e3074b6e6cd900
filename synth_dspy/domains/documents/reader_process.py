"""Parses documents in a child process, so that a loop, a crash or full memory costs one file only.

The child reads one file after another and is restarted if it ends. It gets the bytes of a file, not its name, has no
keys in its environment, and limits that the kernel enforces; where the kernel does not, as for memory on macOS, the
parent checks every 0.2 s.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO, Final

from synth_dspy.core.errors import SetupError
from synth_dspy.core.printable import printable_name
from synth_dspy.domains.documents.reader_child import MEMORY, READY, TEXT
from synth_dspy.domains.documents.readers import Unreadable

_ROOT: Final = str(Path(__file__).resolve().parents[3])
# Not by `-m`, which looks for modules in the working folder first, nor by PYTHONPATH, which comes before the standard
# library.
_CODE: Final = (
    f"import sys; sys.path.append({_ROOT!r}); from synth_dspy.domains.documents.reader_child import main; main()"
)
_INHERITED: Final = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_LOOK_S: Final = 0.2
_START_S: Final = 120.0
# Wall-clock time allowed per second of processor time: on a busy machine the child often waits.
_WAITING: Final = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for reading one file.

    Attributes:
        file_bytes: Size of the file, and of its text (UTF-8).
        seconds: Processor time, plus twice as much per MiB: a dense PDF of 1 MiB takes a fast core ten seconds.
        memory_bytes: Memory of the process that reads it.
    """

    file_bytes: int = 20 * 2**20
    seconds: float = 10.0
    memory_bytes: int = 2**30

    def seconds_for(self, size: int) -> float:
        """Processor time for a file of `size` bytes."""
        return self.seconds * (1 + 2 * size / 2**20)


class ReaderProcess:
    """Reads files in a child process, which is started on demand and ended with the `with` block."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Connection | None = None

    def __enter__(self) -> ReaderProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(self, suffix: str, data: bytes) -> str:
        """The clean text of a file; see `readers.read_document`.

        Raises:
            Unreadable: The file cannot be read within the limits.
            SetupError: The process cannot be started.
        """
        channel = self._started()
        seconds = self._limits.seconds_for(len(data))
        request = {"suffix": suffix, "seconds": seconds, "most": self._limits.file_bytes}
        try:
            channel.send_bytes(json.dumps(request).encode())
            channel.send_bytes(data)
            self._wait(channel, seconds)
            answer = channel.recv_bytes()
        except (OSError, EOFError) as error:
            raise Unreadable(self._reason(seconds)) from error
        if answer.startswith(TEXT):
            return answer[len(TEXT) :].decode()
        if answer.startswith(MEMORY):
            self._end()  # the process may be in any state
            raise Unreadable(self._over_memory())
        raise Unreadable(printable_name(answer[1:].decode())[:300])

    def _started(self) -> Connection:
        if self._channel is not None:
            return self._channel
        self._channel, theirs = Pipe()
        with theirs, tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-s", "-B", "-c", _CODE, str(theirs.fileno()), str(self._limits.memory_bytes)],
                env={name: os.environ[name] for name in _INHERITED if name in os.environ} | {"PYTHONUTF8": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C goes to the parent, which ends it
            )
            theirs.close()
            try:
                if self._channel.poll(_START_S) and self._channel.recv_bytes() == READY:
                    return self._channel
            except (OSError, EOFError):
                pass
            self._end()
            raise SetupError(f"The process that reads documents could not be started{_last_line(errors)}.")

    def _wait(self, channel: Connection, seconds: float) -> None:
        """Wait until the child has answered or ended; end it if it exceeds a limit."""
        end = time.monotonic() + _WAITING * seconds
        while not channel.poll(_LOOK_S):
            if time.monotonic() > end:
                self._end()
                raise Unreadable(_over_time(seconds))
            if self._resident() > self._limits.memory_bytes:
                self._end()
                raise Unreadable(self._over_memory())

    def _resident(self) -> int:
        import psutil  # type: ignore[import-untyped]

        assert self._process is not None
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:  # it has just ended
            return 0

    def _reason(self, seconds: float) -> str:
        """Why the child ended while it read a file."""
        status = self._end()
        if status == -signal.SIGXCPU:
            return _over_time(seconds)
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"crashes the process that reads it ({how})"

    def _over_memory(self) -> str:
        return f"takes more than {self._limits.memory_bytes / 2**20:.0f} MiB of memory to read"

    def _end(self) -> int:
        """End the child and return its exit status; the next one is started on demand."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is None:
            return 0
        try:
            return process.wait(_LOOK_S)  # if it is ending by itself, its status says why
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _over_time(seconds: float) -> str:
    return f"takes longer than {seconds:.0f} s to read"


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
    return f" ({printable_name(lines[-1])[:300]})" if lines else ""
