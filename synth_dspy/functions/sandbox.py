"""The sandbox: a user's functions are called in a child process that can do nothing but compute.

The child starts with an empty environment in a session of its own, confines itself before it imports the user's module,
and serves many calls, so that starting is paid once. What it may do:

- read the interpreter, the installed packages, the module's folder (no file whose name begins with a dot in it) and
  what `readable` names; write in a scratch folder that is removed at the end. So neither the parent's environment nor
  its files, keys or `/proc` are in reach;
- compute for so long, with so much memory;
- start threads, but no process; open no connection.

A call that tries more is stopped with the reason, the child is ended with all its threads, and the next call gets a new
one: functions that keep state begin anew then. A function can lie about its own result, and its modules' state is
shared by the calls of one child; nothing else.

On Linux the kernel enforces this (`sandbox_limits.py`: Landlock from Linux 5.13, seccomp filters on x86-64 and ARM64),
whatever the code does. Elsewhere, macOS included, files, network and processes are guarded by Python's audit hooks
alone: they stop code that was written in good faith, a mistake, a model's odd arguments, but not C code or code that
means to get out. `guarantees` says what holds here. Windows has no sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from synth_dspy.errors import SetupError
from synth_dspy.functions.sandbox_limits import next_violation
from synth_dspy.functions.schema import Call, Function

_CHILD = Path(__file__).with_name("sandbox_child.py")
_LOOK = 0.05  # seconds between looks at the child's memory and folder
_LONGEST = 16_000_000  # bytes of an answer
# What programs on this system read for time zones, file types and shared libraries.
_SYSTEM = ("/usr/share/zoneinfo", "/etc/localtime", "/etc/timezone", "/etc/mime.types", "/etc/ld.so.cache", "/lib",
           "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/dev/urandom", "/dev/random")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        result: what was returned, as JSON; its `repr` where it is not JSON. None where nothing was returned.
        error_type: name of the exception's class; "" where none was raised.
        error: its message.
        stdout: what was printed, to 10,000 characters.
        seconds: wall-clock time.
        stopped: why the sandbox did not run it or ended it; "" where it did not.
    """

    result: Any = None
    error_type: str = ""
    error: str = ""
    stdout: str = ""
    seconds: float = 0.0
    stopped: str = ""

    @property
    def ok(self) -> bool:
        """Whether the function returned."""
        return not (self.error_type or self.stopped)

    def as_json(self) -> dict[str, Any]:
        """As an object, without the time, which differs from run to run."""
        return {
            "result": self.result, "error_type": self.error_type, "error": self.error, "stdout": self.stdout,
            "stopped": self.stopped,
        }  # fmt: skip


class Sandbox:
    """Calls the functions of one module. Safe to use from several threads: their calls wait for each other."""

    def __init__(
        self,
        module: Path,
        functions: Iterable[Function],
        *,
        seconds: float = 5.0,
        memory_mb: int = 512,
        files_mb: int = 10,
        only_read_only: bool = True,
        readable: Sequence[Path] = (),
        start_seconds: float = 60.0,
    ) -> None:
        """Nothing is started before the first call.

        Args:
            module: The Python file. What it imports must be installed, or lie in its folder (its package's, if it is in
                one). Of a module that lies in the user's home or at the root, only the file itself is readable.
            functions: Those that can be called; those without a `target` cannot.
            seconds: Wall-clock time of a call.
            memory_mb: Memory, modules included. Large libraries need more than the default.
            files_mb: Size of all files that calls leave behind or have open.
            only_read_only: Refuse functions that are not marked read-only.
            readable: Files and folders that may be read besides.
            start_seconds: Wall-clock time of importing the module.

        Raises:
            SetupError: This system has no sandbox, or there is no such file.
        """
        if sys.platform == "win32":
            raise SetupError("Functions can be executed on Linux and macOS only: run this there, or in WSL.")
        self.module = module.resolve()
        if not self.module.is_file():
            raise SetupError(f"The module of the functions to be called, {module}, is not a file.")
        self._functions = {function.name: function for function in functions}
        self.seconds, self.memory_mb, self.files_mb = seconds, memory_mb, files_mb
        self.only_read_only = only_read_only
        self._readable = [path.resolve() for path in readable]
        self._start_seconds = start_seconds
        self._child: _Process | None = None
        self._lock = threading.Lock()

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Make calls, one after the other, in one child as long as none has to be stopped.

        Args:
            calls: Calls; those nested in their arguments are made first and their results, as JSON, take their places.

        Raises:
            SetupError: The module cannot be imported in the sandbox.
        """
        with self._lock:
            return [self._run(call) for call in calls]

    def guarantees(self) -> dict[str, str]:
        """What is enforced here, and by what: time, memory, files, environment, network, processes.

        Raises:
            SetupError: The module cannot be imported in the sandbox.
        """
        with self._lock:
            layers = self._alive().layers
        hooks = "Python's audit hooks only: C code can get round them"
        landlock = f"Landlock (version {layers['landlock']})" if layers["landlock"] else hooks
        seccomp = "seccomp filter" if layers["seccomp"] else hooks
        space = "looks every 50 ms" if "AS" in layers["lacking"] else "limit on address space, and looks every 50 ms"
        return {
            "time": "the process group is killed",
            "memory": space,
            "files": f"{landlock}; modes, owners and times by {seccomp}; size by a limit on each and looks every 50 ms",
            "environment": f"an empty environment; other processes' by {landlock}",
            "network": seccomp,
            "processes": seccomp,
        }

    def close(self) -> None:
        """End the child and remove its folder. The next call starts a new one."""
        with self._lock:
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None:
            child.end()

    def _run(self, call: Call) -> Outcome:
        for each in (call, *call.inner()):
            function = self._functions.get(each.name)
            if function is None or not function.target:
                return Outcome(stopped=f"not run: {each.name} is no function that can be called")
            if self.only_read_only and not function.read_only:
                return Outcome(stopped=f"not run: {each.name} is not marked read-only")
        child = self._alive()
        began = time.perf_counter()
        answer = child.ask(call.as_json(), self.seconds)
        outcome = Outcome(
            answer.get("result"),
            str(answer.get("error_type", "")),
            str(answer.get("error", "")),
            str(answer.get("stdout", "")),
            float(answer.get("seconds") or time.perf_counter() - began),
            self._in_words(str(answer.get("stopped", "")), self.seconds),
        )
        child.spent += outcome.seconds
        if outcome.stopped or answer.get("dirty") or child.spent > 20 * self.seconds:
            self._end()
        return outcome

    def _in_words(self, stopped: str, seconds: float) -> str:
        known = {
            "time": f"ran longer than {seconds:g} s",
            "memory": f"used more than {self.memory_mb} MB",
            "file": f"wrote more than {self.files_mb} MB",
        }
        return known.get(stopped, stopped)

    def _alive(self) -> _Process:
        """The child, started where there is none."""
        if self._child is not None and self._child.gone():
            self._end()
        if self._child is None:
            child = _Process(self._settings(), memory=self.memory_mb << 20, files=self.files_mb << 20)
            try:
                ready = child.start(self._start_seconds)
            except BaseException:
                child.end()
                raise
            if "layers" not in ready or ready.get("stopped") or ready.get("error_type"):
                child.end()
                why = self._in_words(str(ready.get("stopped", "")), self._start_seconds)
                why = why or f"{ready.get('error_type')}: {ready.get('error')}"
                raise SetupError(
                    f"{self.module} cannot be imported in the sandbox: {why}. It may read its own folder and installed "
                    "packages, and do nothing but define what is called."
                )
            self._child = child
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _settings(self) -> dict[str, Any]:
        around, listable = _around(self.module)
        return {
            "module": str(self.module),
            "targets": {name: each.target.rpartition(":")[2] for name, each in self._functions.items() if each.target},
            "readable": [str(path) for path in (*_libraries(), *around, *self._readable)],
            "listable": [str(path) for path in listable],
            "memory": self.memory_mb << 20,
            "file": self.files_mb << 20,
            "cpu": int(self._start_seconds + 50 * self.seconds + 1),
        }


class _Process:
    """A child process: started, asked, watched, ended."""

    def __init__(self, settings: Mapping[str, Any], *, memory: int, files: int) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="sandbox-")).resolve()
        self.layers: dict[str, Any] = {}
        self.spent = 0.0  # seconds of calls
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
        ready = self._answer(seconds)
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

    def end(self) -> None:
        """Kill the process with all it may have started, and remove its folder. Can be done twice."""
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

    def _answer(self, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        received = b""
        while True:
            left = until - time.monotonic()
            if left <= 0:
                return {"stopped": "time"}
            ready = {key.fd for key, _ in self._selector.select(min(left, _LOOK))}
            if self._listener in ready:
                violation = next_violation(self._listener or 0)
                if violation:
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
            overuse = self._overuse() if not ready else ""
            if overuse:
                return {"stopped": overuse}

    def _overuse(self) -> str:
        """What the limits on address space and on each file let pass: they do not bind everywhere, or add up."""
        import psutil

        try:
            if psutil.Process(self._process.pid).memory_info().rss > self._memory:
                return "memory"
        except psutil.Error:
            return ""
        return "file" if _size(self.scratch, self._files) > self._files else ""

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
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {"stopped": "answered something else than JSON"}


def _environment(scratch: Path) -> dict[str, str]:
    """All that the child has of an environment. One thread for numerical libraries: each takes address space."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")}
    home = {"HOME": str(scratch), "TMPDIR": str(scratch), "PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}
    return {**kept, **threads, **home, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "2"}


def _libraries() -> list[Path]:
    """The interpreter's library, installed packages, and this one (its decorator marks read-only functions)."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [str(Path(prefix) / "lib") for prefix in (sys.prefix, sys.base_prefix)]
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        folders += filter(None, os.environ.get(name, "").split(os.pathsep))
    found = [Path(folder).resolve() for folder in (*folders, *_SYSTEM, str(Path(__file__).parents[1]))]
    return list(dict.fromkeys(path for path in found if path.exists()))


def _around(module: Path) -> tuple[list[Path], list[Path]]:
    """What can be read and what can be listed of the module's folder, or its package's: all but what is hidden (.env).

    In a folder that holds everything else of the user too, the module's file or package alone.
    """
    folder, top = module.parent, module
    while (folder / "__init__.py").is_file():
        folder, top = folder.parent, folder
    if folder in (Path.home().resolve(), Path(folder.anchor), Path(tempfile.gettempdir()).resolve()):
        return [top], []
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")], [folder]


def _size(folder: Path, most: int) -> int:
    """Bytes of the files below a folder, counted as far as `most`."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
            if total > most:
                return total
    return total
