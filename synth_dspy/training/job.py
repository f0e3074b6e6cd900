"""Runs a training in a child process, `python -m synth_dspy.train spec.json`, and follows its events.

The child has memory and threads to itself, can be stopped without leaving anything half-written, and is the command
that SageMaker or Ray run elsewhere. It stops when its parent dies. As its imports take ten seconds, a child that has
finished waits a while for the next training; `start_idle_worker` starts one ahead of the first.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from synth_dspy.core.errors import ArmError
from synth_dspy.models.cluster.cluster import Cluster
from synth_dspy.models.cluster.process import RemoteProcess, at_once
from synth_dspy.models.weights.trained import SPEC, read_result
from synth_dspy.training.spec import ERRORS, FROM_STDIN

log = logging.getLogger("synth_dspy.training")

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

STOP_S = 10.0
"""How long a training may take to stop before it is killed."""
_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false"}
MEMORY = "lower max_tokens or lora.rank in training.options.<method>, or take a smaller model"


class Cancelled(ArmError):
    """The training was cancelled."""


class Training(Protocol):
    """The training of one folder, wherever it runs."""

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Train, unless the folder has a result; the content of `result.json`. Raises `ArmError`."""
        ...

    def cancel(self) -> bool:
        """Stop it; False if it has ended."""
        ...


class TrainingProcess:
    """Runs the training of a folder that holds a spec. Call `run()` once; `cancel()` may come from any thread."""

    def __init__(self, folder: Path, cluster: Cluster | None = None) -> None:
        self.folder = folder
        self._cluster = cluster
        self._cancelled = False
        self._process: subprocess.Popen[str] | RemoteProcess | None = None
        self._lock = threading.Lock()

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Train, unless the folder has a result; the child resumes from its last checkpoint.

        Returns:
            The content of `result.json`.

        Raises:
            ArmError: the training failed; says why, and what to lower or fix. `Cancelled` if it was cancelled.
        """
        result = read_result(self.folder)
        if result is not None:
            return require_success(result)
        spec = self.folder.resolve() / SPEC
        last: Mapping[str, Any] = {}
        status = None
        starts: tuple[Callable[[Path], _Child | None], ...] = (_idle.assign, _open)
        if self._cluster is not None and at_once(self._cluster):
            starts = (partial(_open_remote, self._cluster),)
        for start in starts:
            child = self._start(start, spec)
            if child is not None:
                last, status = self._follow(child, progress), child.process.returncode
            if last or self._cancelled:
                break  # otherwise the idle worker exited before it began
        if self._cancelled:
            raise Cancelled(f"The training {self.folder.name} was cancelled; start it again to resume.")
        if last.get("event") == "failed":
            raise ArmError(str(last["message"]))
        result = read_result(self.folder)
        if result is None:
            raise ArmError(self._explain_exit(status))
        return require_success(result)

    def _follow(self, child: _Child, progress: Progress | None) -> Mapping[str, Any]:
        """Pass on a child's events until it is idle or has exited; returns the last event."""
        last: Mapping[str, Any] = {}
        ending = False
        try:
            assert child.process.stdout is not None
            for line in child.process.stdout:
                event = _event(line)
                last = event or last
                if event.get("event") == "progress":
                    if progress is not None:
                        progress(int(event["step"]), int(event["steps"]))
                elif event.get("event") != "failed" and event:
                    log.info("%s: %s", self.folder.name, line.strip())
                if event.get("stays"):
                    break
            else:
                ending = True
        finally:
            with self._lock:
                self._process = None
            if last.get("stays") and isinstance(child.process, subprocess.Popen):
                _idle.swap(child)
            else:
                _end(child.process, ending=ending)
        return last

    def cancel(self) -> bool:
        """Stop the child; False if it has ended."""
        with self._lock:  # so that the child cannot start another training meanwhile
            self._cancelled = True
            process = self._process
            if process is None or process.poll() is not None:
                return False
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        return True

    def _start(self, start: Callable[[Path], _Child | None], spec: Path) -> _Child | None:
        with self._lock:
            if self._cancelled:
                raise Cancelled(f"The training {self.folder.name} was cancelled before it began.")
            child = start(spec)
            self._process = None if child is None else child.process
            return child

    def _explain_exit(self, status: int | None) -> str:
        if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return f"The training {self.folder.name} was killed, most likely because memory ran out: {MEMORY}."
        with suppress(OSError):
            text = (self.folder / ERRORS).read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return f"The training {self.folder.name} stopped with status {status}: {text.splitlines()[-1][:300]}"
        return f"The training {self.folder.name} stopped with status {status}; its log is {self.folder / 'train.log'}."


def start_idle_worker() -> None:
    """Start a worker ahead of a training that is to come soon, so that its imports are done by then."""
    with suppress(OSError):  # the training will report that no process can be started
        _idle.swap(_open(None))


def stop_idle_worker() -> None:
    """Stop the idle worker, if there is one."""
    _idle.swap(None)


@dataclass(frozen=True, slots=True)
class _Child:
    """A training process, and the context that it got from its parent: environment and working directory."""

    process: subprocess.Popen[str] | RemoteProcess
    context: tuple[dict[str, str], str]


class _IdleWorker:
    """Holds at most one child that waits for another training. The child exits by itself after a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def swap(self, child: _Child | None) -> None:
        """Keep a child, and end the previous one."""
        with self._lock:
            previous, self._child = self._child, child
        if previous is not None:
            _end(previous.process)

    def assign(self, spec: Path) -> _Child | None:
        """Assign a training to the idle child; None if there is none with the same context."""
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return None
        assert isinstance(child.process, subprocess.Popen)
        with suppress(OSError):  # it has exited meanwhile
            if child.context == _context() and child.process.poll() is None:
                assert child.process.stdin is not None
                child.process.stdin.write(json.dumps(str(spec)) + "\n")
                child.process.stdin.flush()
                return child
        _end(child.process)
        return None


_idle = _IdleWorker()


def _context() -> tuple[dict[str, str], str]:
    return dict(os.environ), os.getcwd()


def _open(spec: Path | None) -> _Child:
    """Start a child that trains a spec; None: it waits for one."""
    # The child reads further specs from its standard input, which is closed when this process ends.
    errors = Path(os.devnull) if spec is None else spec.parent / ERRORS
    with errors.open("w", encoding="utf-8") as stderr:
        context = _context()
        process = subprocess.Popen(
            [sys.executable, "-m", "synth_dspy.train", str(spec or FROM_STDIN), "--events", "--stay", "--trust"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            env={**_ENVIRONMENT, **context[0]},
        )
    return _Child(process, context)


def _open_remote(cluster: Cluster, spec: Path) -> _Child:
    """Start a child that trains a spec on a machine of the cluster, which sees the same folders."""
    arguments = ["-m", "synth_dspy.train", str(spec), "--events", "--stay", "--trust"]
    return _Child(RemoteProcess(cluster, arguments, spec.parent / ERRORS, _ENVIRONMENT), _context())


def _end(process: subprocess.Popen[str] | RemoteProcess, *, ending: bool = False) -> None:
    """Stop a child, unless it is `ending` by itself, and wait until it has released its resources."""
    if not ending:
        process.terminate()
    with suppress(OSError), process:
        pass


def require_success(result: dict[str, Any]) -> dict[str, Any]:
    """The result of a training that succeeded.

    Raises:
        ArmError: it failed; says why.
    """
    if result.get("failed"):
        raise ArmError(str(result["failed"]))
    return result


def _event(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}  # output of a library that bypassed the log
    return value if isinstance(value, dict) else {}
