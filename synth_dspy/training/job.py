"""One training as a child process: `python -m synth_dspy.train spec.json`, followed by its events.

The child has the memory and the threads to itself, can be stopped without leaving anything half-written, and is the
same command that SageMaker or Ray run elsewhere. It goes with its parent: a child whose parent died stops too. One that
has trained on a CPU waits a while for the next folder to train in, as importing what it needs takes ten seconds.
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
from pathlib import Path
from typing import Any

from synth_dspy.errors import ArmError
from synth_dspy.training.spec import ERRORS, RESULT, SPEC

_Child = subprocess.Popen[str]
log = logging.getLogger("synth_dspy.training")

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

STOP_S = 10.0
"""How long a training that is told to stop may take before it is killed."""
KEEP_S = 120.0
"""How long a child waits for another training."""
MEMORY = "lower max_tokens or lora.rank in training.options.<method>, or take a smaller model"


class Cancelled(ArmError):
    """The training was cancelled."""


class TrainingProcess:
    """Runs the training of a folder that holds a spec. One `run()`; `cancel()` from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cancelled = False
        self._process: _Child | None = None
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
            process = self._start(start, spec)
            if process is not None:
                last, status = self._follow(process, progress), process.returncode
            if last or self._cancelled:
                break  # else the child that was kept died before it began
        if self._cancelled:
            raise Cancelled(f"The training {self.folder.name} was cancelled; started again, it goes on.")
        if last.get("event") == "failed":
            raise ArmError(str(last["message"]))
        done = read_result(self.folder)
        if done is None:
            raise ArmError(self._died(status))
        return _sound(done)

    def _follow(self, process: _Child, progress: Progress | None) -> Mapping[str, Any]:
        """Pass on what a child says until it is done, or has ended; the last of it."""
        last: Mapping[str, Any] = {}
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = _event(line)
                last = event or last
                if event.get("event") == "progress":
                    if progress is not None:
                        progress(int(event["step"]), int(event["steps"]))
                elif event.get("event") != "failed" and event:
                    log.info("%s: %s", self.folder.name, line.strip())
                if event.get("event") == "done":
                    break
        finally:
            with self._lock:
                self._process = None
            if last.get("event") == "done":
                _kept.keep(process)
            else:
                _end(process)
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
            self._process = start(spec)
            return self._process

    def _died(self, status: int | None) -> str:
        if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return f"The training {self.folder.name} was killed, most likely because memory ran out: {MEMORY}."
        with suppress(OSError):
            text = (self.folder / ERRORS).read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return f"The training {self.folder.name} stopped with status {status}: {text.splitlines()[-1][:300]}"
        return f"The training {self.folder.name} stopped with status {status}; its log is {self.folder / 'train.log'}."


def let_go() -> None:
    """End the child that waits for another training, if there is one: no more are to come soon."""
    _kept.end()


class _Kept:
    """The child that waits for another training: one at most, and not for long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Child | None = None
        self._surroundings: Any = None
        self._timer: threading.Timer | None = None

    def keep(self, process: _Child) -> None:
        self.end()
        with self._lock:
            self._process, self._surroundings = process, _surroundings()
            self._timer = threading.Timer(KEEP_S, self.end)
            self._timer.daemon = True
            self._timer.start()

    def another(self, spec: Path) -> _Child | None:
        """The child, told to train what a spec describes; None where there is none that would train the same."""
        process, surroundings = self._take()
        if process is None:
            return None
        try:
            if surroundings == _surroundings() and process.poll() is None:
                assert process.stdin is not None
                process.stdin.write(json.dumps(str(spec)) + "\n")
                process.stdin.flush()
                return process
        except OSError:  # it died meanwhile
            pass
        _end(process)
        return None

    def end(self) -> None:
        process, _ = self._take()
        if process is not None:
            _end(process)

    def _take(self) -> tuple[_Child | None, Any]:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            process, self._process, self._timer = self._process, None, None
            return process, self._surroundings


_kept = _Kept()


def _surroundings() -> tuple[dict[str, str], str]:
    """What a child has from its parent: the environment and the folder that it works in."""
    return dict(os.environ), os.getcwd()


def _open(spec: Path) -> _Child:
    # The child reads the specs of further trainings from its standard input, which ends when this process is gone.
    with (spec.parent / ERRORS).open("w", encoding="utf-8") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "synth_dspy.train", str(spec), "--events"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env={"TOKENIZERS_PARALLELISM": "false", **os.environ},
        )


def _end(process: _Child) -> None:
    """Have a child end that trains no more, or at once if it still does."""
    with suppress(OSError), process:  # closes its standard input, at whose end it ends, and waits
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
