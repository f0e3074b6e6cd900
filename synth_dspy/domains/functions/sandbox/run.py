"""The sandbox: executes a user's functions in a child process that can only compute.

The child starts with an empty environment in its own session, confines itself before it imports the user's module,
serves many calls, so that starting costs time only once, and ends with its parent. It may:

- read the interpreter, the installed packages, the module's folder and the paths in `readable`, but nothing hidden in
  the module's folder (a name or folder that begins with a dot), and nothing outside that a link leads to; write to a
  scratch folder that is removed at the end. So the parent's environment, files, keys and `/proc` are out of reach;
- compute within limits of time and memory;
- start threads, but no process; open no connection.

A call that writes elsewhere, opens a connection or starts a process is stopped with the reason, the child is ended with
all its threads, and the next call gets a new one: functions that keep state then start afresh, as they do after a call
that leaves a thread running. Forbidden reads are refused; so is all of this while a module is imported. Changes of a
file's mode, owner or times have no effect. A function can return a false result, and the module's state is shared by
the calls of one child, but an answer counts only for the call that it answers.

On Linux the kernel enforces this (Landlock from Linux 5.13, `core/process_limits.py`; seccomp filters on x86-64 and
ARM64, `seccomp.py`), whatever the code does. Elsewhere, macOS included, files, network and processes are guarded by
Python's audit hooks alone: they stop code written in good faith, an error, a model's odd arguments, but not C code or
code that tries to escape. `guarantees` describes this machine. Windows has no sandbox.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.sandbox.process import OUT_OF_TURN, ChildProcess
from synth_dspy.domains.functions.sandbox.settings import child_settings, in_words
from synth_dspy.domains.functions.sandbox.values import SHOWN
from synth_dspy.domains.functions.schema import Call, Function


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one call.

    Attributes:
        result: the value returned, as JSON; its `repr`, up to 10,000 characters, if it is not JSON, longer than a
            million characters or more than 100 levels deep. None if nothing was returned.
        error_type: name of the exception's class; "" if none was raised.
        error: its message.
        stdout: the output, up to 10,000 characters.
        seconds: wall-clock time.
        stopped: why the sandbox did not run or stopped the call; "" if it ran to its end.
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
        """The outcome as JSON, without the time, which differs from run to run."""
        return {
            "result": self.result, "error_type": self.error_type, "error": self.error, "stdout": self.stdout,
            "stopped": self.stopped,
        }  # fmt: skip


class Sandbox:
    """Executes functions of one module. Threads may share it: their calls wait for each other."""

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
        """Starts nothing before the first call.

        Args:
            module: The Python file. Its imports must be installed, or be in its folder (its package's, if it is in
                one). If it is in the user's home or in the root folder, only the file itself is readable.
            functions: The functions; those without a `target` cannot be executed.
            seconds: Wall-clock time of a call.
            memory_mb: Memory, modules included. Large libraries need more than the default.
            files_mb: Size of all files and folders that calls leave behind and, on Linux, of removed files that are
                still open; each counts for at least 4 KB.
            only_read_only: Refuse functions that are not marked read-only.
            readable: Further files and folders that may be read.
            start_seconds: Wall-clock time of importing the module.

        Raises:
            SetupError: This system has no sandbox, or there is no such file.
        """
        if sys.platform == "win32":
            raise SetupError("Functions can be executed on Linux and macOS only: run this there, or in WSL.")
        self.module = module.resolve()
        if not self.module.is_file():
            raise SetupError(f"The functions' module {module} is not a file; correct its path.")
        self.functions = {function.name: function for function in functions}
        self.seconds, self.memory_mb, self.files_mb = seconds, memory_mb, files_mb
        self.only_read_only = only_read_only
        self.readable = [path.resolve() for path in readable]
        self._start_seconds = start_seconds
        self._child: ChildProcess | None = None
        self._finalizer: weakref.finalize[[], Sandbox] | None = None  # ends the child if `close` was not called
        self._lock = threading.Lock()

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Execute calls, one after the other, in one child unless one has to be stopped.

        Args:
            calls: The calls; nested ones are executed first, and replaced by their results as JSON.

        Raises:
            SetupError: The module cannot be imported in the sandbox.
        """
        with self._lock:
            return [self._run(call) for call in calls]

    def guarantees(self) -> dict[str, str]:
        """What is enforced on this machine, and how: time, memory, files, environment, network, processes.

        Raises:
            SetupError: The module cannot be imported in the sandbox.
        """
        with self._lock:
            layers = self._alive().layers
        hooks = "Python's audit hooks only: C code can bypass them"
        landlock = f"Landlock (version {layers['landlock']})" if layers["landlock"] else hooks
        seccomp = "seccomp filter" if layers["seccomp"] else hooks
        if 0 < layers["landlock"] < 3 and not layers["seccomp"]:
            landlock += "; truncating by " + hooks
        space = "checks every 50 ms" if "AS" in layers["lacking"] else "limit on address space, and checks every 50 ms"
        return {
            "time": "the process group is killed",
            "memory": space,
            "files": f"{landlock}; modes, owners and times by {seccomp}; size by a limit on each and checks every 50 "
            "ms, which count folders too",
            "environment": f"an empty environment; that of other processes by {landlock}",
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

    def _run(self, call: Call) -> Outcome:
        for each in (call, *call.inner()):
            function = self.functions.get(each.name)
            if function is None or not function.target:
                return Outcome(stopped=f"not run: {each.name} is not a function that can be called")
            if self.only_read_only and not function.read_only:
                return Outcome(stopped=f"not run: {each.name} is not marked read-only")
        # If a child answers something else, its next answers cannot be assigned to calls either: another one is tried.
        for _ in range(2):
            child = self._alive()
            began = time.perf_counter()
            answer = child.ask(call.as_json(), self.seconds)
            took = time.perf_counter() - began
            if answer.get("stopped") != OUT_OF_TURN:
                break
            self._end()
        outcome = self._outcome(answer, took)
        child.spent += took
        if outcome.stopped or child.spent > 20 * self.seconds or child.is_spoilt():
            self._end()
        return outcome

    def _outcome(self, answer: Mapping[str, Any], took: float) -> Outcome:
        """The outcome from the child's message, each field cut and checked."""
        measured = answer.get("seconds")
        return Outcome(
            answer.get("result"),
            str(answer.get("error_type", ""))[:SHOWN],
            str(answer.get("error", ""))[:SHOWN],
            str(answer.get("stdout", ""))[:SHOWN],
            measured if isinstance(measured, float) and 0 <= measured <= took else took,
            self._in_words(str(answer.get("stopped", ""))[:SHOWN], self.seconds),
        )

    def _in_words(self, stopped: str, seconds: float) -> str:
        return in_words(stopped, seconds, self.memory_mb, self.files_mb)

    def _alive(self) -> ChildProcess:
        """The child, started if there is none."""
        if self._child is not None and self._child.gone():
            self._end()
        if self._child is None:
            child = ChildProcess(self._settings(), memory=self.memory_mb << 20, files=self.files_mb << 20)
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
                    "packages, and should only define the functions."
                )
            self._child = child
            self._finalizer = weakref.finalize(self, child.end)
        return self._child

    def _end(self) -> None:
        if self._child is not None and self._finalizer is not None:
            self._finalizer()
            self._child = None

    def _settings(self) -> dict[str, Any]:
        return child_settings(
            self.module,
            {name: each.target.rpartition(":")[2] for name, each in self.functions.items() if each.target},
            readable=self.readable,
            memory_mb=self.memory_mb,
            files_mb=self.files_mb,
            cpu_seconds=int(self._start_seconds + 50 * self.seconds + 1),
        )
