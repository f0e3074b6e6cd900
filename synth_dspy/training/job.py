"""One training as a child process: `python -m synth_dspy.train spec.json`, followed by its events.

The child has the memory and the threads to itself, can be stopped without leaving anything half-written, and is the
same command that SageMaker or Ray run elsewhere. It goes with its parent: a child whose parent died stops too.
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
from synth_dspy.training.spec import RESULT, SPEC

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
        failed: Mapping[str, Any] | None = None
        with self._start() as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = _event(line)
                if event.get("event") == "progress" and progress is not None:
                    progress(int(event["step"]), int(event["steps"]))
                elif event.get("event") == "failed":
                    failed = event
                elif event:
                    log.info("%s: %s", self.folder.name, line.strip())
        if self._cancelled:
            raise Cancelled(f"The training {self.folder.name} was cancelled; started again, it goes on.")
        if failed is not None:
            raise ArmError(str(failed["message"]))
        done = read_result(self.folder)
        if process.returncode != 0 or done is None:
            raise ArmError(self._died(process.returncode))
        return _sound(done)

    def cancel(self) -> bool:
        """Stop the child; False if it had ended."""
        with self._lock:
            self._cancelled = True
            process = self._process
        if process is None or process.poll() is not None:
            return False
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        process.kill()
        return True

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "synth_dspy.train", str(self.folder / SPEC), "--events"]
        # The child reads its standard input only to see it end, which it does when this process is gone.
        with (self.folder / "errors.log").open("w", encoding="utf-8") as errors, self._lock:
            if self._cancelled:
                raise Cancelled(f"The training {self.folder.name} was cancelled before it began.")
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env={"TOKENIZERS_PARALLELISM": "false", **os.environ},
            )
        return self._process

    def _died(self, status: int) -> str:
        if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            return f"The training {self.folder.name} was killed, most likely because memory ran out: {MEMORY}."
        with suppress(OSError):
            text = (self.folder / "errors.log").read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return f"The training {self.folder.name} stopped with status {status}: {text.splitlines()[-1][:300]}"
        return f"The training {self.folder.name} stopped with status {status}; its log is {self.folder / 'train.log'}."


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
