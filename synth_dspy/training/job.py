"""One training as a child process: `python -m synth_dspy.train spec.json`, followed by its events.

The child has the memory and the threads to itself, can be stopped without leaving anything half-written, and is the
same command that SageMaker or Ray run elsewhere. It goes with its parent: a child whose parent died stops too. One that
can waits a while for the next folder to train in, as importing what it needs takes ten seconds; `get_ready` starts one
before there is a first.
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
from pathlib import Path
from typing import Any

from synth_dspy.errors import ArmError
from synth_dspy.training.spec import ERRORS, RESULT, SENT, SPEC

log = logging.getLogger("synth_dspy.training")

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

STOP_S = 10.0
"""How long a training that is told to stop may take before it is killed."""
MEMORY = "lower max_tokens or lora.rank in training.options.<method>, or take a smaller model"


class Cancelled(ArmError):
    """The training was cancelled."""


class TrainingProcess:
    """Runs the training of a folder that holds a spec. One `run()`; `cancel()` from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cancelled = False
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Train, unless it has been done; the child goes on from its last checkpoint.

        Returns:
            What `result.json` holds.

        Raises:
            ArmError: the training failed; says why, and what to lower or mend. `Cancelled` if it was cancelled.
        """
        done = read_result(self.folder)
        if done is not None:
            return _sound(done)
        spec = self.folder.resolve() / SPEC
        last: Mapping[str, Any] = {}
        status = None
        for start in (_kept.another, _open):
            child = self._start(start, spec)
            if child is not None:
                last, status = self._follow(child, progress), child.process.returncode
            if last or self._cancelled:
                break  # else the child that was kept left before it began
        if self._cancelled:
            raise Cancelled(f"The training {self.folder.name} was cancelled; started again, it goes on.")
        if last.get("event") == "failed":
            raise ArmError(str(last["message"]))
        done = read_result(self.folder)
        if done is None:
            raise ArmError(self._died(status))
        return _sound(done)

    def _follow(self, child: _Child, progress: Progress | None) -> Mapping[str, Any]:
        """Pass on what a child says until it is done and stays, or has ended; the last of it."""
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
            if last.get("stays"):
                _kept.swap(child)
            else:
                _end(child.process, ending=ending)
        return last

    def cancel(self) -> bool:
        """Stop the child; False if it had ended."""
        with self._lock:  # until it has ended with this folder: then the child may train in another
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

    def _died(self, status: int | None) -> str:
        if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return f"The training {self.folder.name} was killed, most likely because memory ran out: {MEMORY}."
        with suppress(OSError):
            text = (self.folder / ERRORS).read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return f"The training {self.folder.name} stopped with status {status}: {text.splitlines()[-1][:300]}"
        return f"The training {self.folder.name} stopped with status {status}; its log is {self.folder / 'train.log'}."


def get_ready() -> None:
    """Start the child that waits for a training, which is to come soon: it imports what it needs meanwhile."""
    with suppress(OSError):  # where no process can be started, the training says so
        _kept.swap(_open(None))


def let_go() -> None:
    """End the child that waits for another training, if there is one: no more are to come soon."""
    _kept.swap(None)


@dataclass(frozen=True, slots=True)
class _Child:
    """A process that trains, and what it has from its parent: the environment and the folder that it works in."""

    process: subprocess.Popen[str]
    surroundings: tuple[dict[str, str], str]


class _Kept:
    """The child that waits for another training: one at most. It leaves by itself after a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def swap(self, child: _Child | None) -> None:
        """Keep a child, and end the one that was kept."""
        with self._lock:
            before, self._child = self._child, child
        if before is not None:
            _end(before.process)

    def another(self, spec: Path) -> _Child | None:
        """The child, told to train what a spec describes; None where there is none that would train the same."""
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return None
        with suppress(OSError):  # it has left meanwhile
            if child.surroundings == _surroundings() and child.process.poll() is None:
                assert child.process.stdin is not None
                child.process.stdin.write(json.dumps(str(spec)) + "\n")
                child.process.stdin.flush()
                return child
        _end(child.process)
        return None


_kept = _Kept()


def _surroundings() -> tuple[dict[str, str], str]:
    return dict(os.environ), os.getcwd()


def _open(spec: Path | None) -> _Child:
    """Start a child that trains what a spec describes; None: what it is sent."""
    # The child reads the specs of further trainings from its standard input, which ends when this process is gone.
    errors = Path(os.devnull) if spec is None else spec.parent / ERRORS
    with errors.open("w", encoding="utf-8") as stderr:
        surroundings = _surroundings()
        process = subprocess.Popen(
            [sys.executable, "-m", "synth_dspy.train", str(spec or SENT), "--events", "--stay", "--trust"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            env={"TOKENIZERS_PARALLELISM": "false", **surroundings[0]},
        )
    return _Child(process, surroundings)


def _end(process: subprocess.Popen[str], *, ending: bool = False) -> None:
    """Have a child end, unless it is `ending` by itself, and wait until it has given everything back."""
    if not ending:
        process.terminate()
    with suppress(OSError), process:
        pass


def read_result(folder: Path) -> dict[str, Any] | None:
    """What a finished training left behind; None if it has not finished."""
    try:
        value = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _sound(result: dict[str, Any]) -> dict[str, Any]:
    if result.get("failed"):
        raise ArmError(str(result["failed"]))
    return result


def _event(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}  # what a library printed past the log
    return value if isinstance(value, dict) else {}
