"""The sandbox: a user's functions are called in a child process that can do nothing but compute.

The child starts with an empty environment in a session of its own, confines itself before it imports the user's module,
serves many calls, so that starting is paid once, and ends with its parent. What it may do:

- read the interpreter, the installed packages, the module's folder and what `readable` names; nothing in the module's
  folder whose name, or whose folder's, begins with a dot, and nothing outside that a link in it leads to; write in a
  scratch folder that is removed at the end. So neither the parent's environment nor its files, keys or `/proc` are in
  reach;
- compute for so long, with so much memory;
- start threads, but no process; open no connection.

A call that writes, connects or starts more is stopped with the reason, the child is ended with all its threads, and the
next call gets a new one: functions that keep state begin anew then, and so they do after a call that leaves a thread
behind. What it may not read, it finds forbidden; so does a module that tries any of this while it is imported. Changes
of a file's mode, owner or times do nothing. A function can lie about its own result, and the module's state is shared
by the calls of one child, but an answer counts for the call that it answers and no other.

On Linux the kernel enforces this (Landlock from Linux 5.13, `sandbox_limits.py`; seccomp filters on x86-64 and ARM64,
`sandbox_seccomp.py`), whatever the code does. Elsewhere, macOS included, files, network and processes are guarded by
Python's audit hooks alone: they stop code that was written in good faith, a mistake, a model's odd arguments, but not C
code or code that means to get out. `guarantees` says what holds here. Windows has no sandbox.
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
    """What became of one call.

    Attributes:
        result: what was returned, as JSON; its `repr`, to 10,000 characters, where it is not JSON, longer than a
            million characters or more than 100 levels deep. None where nothing was returned.
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
            files_mb: Size of all files and folders that calls leave behind or, on Linux, have open but removed; each
                counts for 4 KB at least.
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
        self.functions = {function.name: function for function in functions}
        self.seconds, self.memory_mb, self.files_mb = seconds, memory_mb, files_mb
        self.only_read_only = only_read_only
        self.readable = [path.resolve() for path in readable]
        self._start_seconds = start_seconds
        self._child: ChildProcess | None = None
        self._finalizer: weakref.finalize[[], Sandbox] | None = None  # ends the child where nobody else does
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
        if 0 < layers["landlock"] < 3 and not layers["seccomp"]:
            landlock += "; emptying by " + hooks
        space = "looks every 50 ms" if "AS" in layers["lacking"] else "limit on address space, and looks every 50 ms"
        return {
            "time": "the process group is killed",
            "memory": space,
            "files": f"{landlock}; modes, owners and times by {seccomp}; size by a limit on each and looks every 50 "
            "ms, which count folders too",
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

    def _run(self, call: Call) -> Outcome:
        for each in (call, *call.inner()):
            function = self.functions.get(each.name)
            if function is None or not function.target:
                return Outcome(stopped=f"not run: {each.name} is no function that can be called")
            if self.only_read_only and not function.read_only:
                return Outcome(stopped=f"not run: {each.name} is not marked read-only")
        # Of a child that answers what it was not asked, nobody knows which call it answers: another one is asked.
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
        """What the child said, as far as it may say it."""
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
        """The child, started where there is none."""
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
                    "packages, and do nothing but define what is called."
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
