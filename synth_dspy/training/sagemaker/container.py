"""The entry point of a training container: `python -m synth_dspy.training.sagemaker.container`.

    /opt/ml/input/config/*.json, /opt/ml/input/data/<channel>    read
    /opt/ml/checkpoints/checkpoint.tar                           the last checkpoint, which SageMaker keeps on S3
    /opt/ml/model                                                the finished training's folder
    /opt/ml/output/failure                                       one sentence, if it failed

Events go to standard output, and so into CloudWatch. At SIGTERM (a spot instance is taken away, or the job is stopped)
the training is stopped and its last checkpoint kept; SageMaker gives that 120 seconds.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import tarfile
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError, SynthDspyError, explain_failure
from synth_dspy.models.weights.trained import SPEC, read_result
from synth_dspy.training.checkpoints import last_checkpoint
from synth_dspy.training.job import Cancelled, TrainingProcess, stop_idle_worker
from synth_dspy.training.runner import CHECKPOINTS
from synth_dspy.training.sagemaker.contract import (
    ADAPTERS,
    CHECKPOINT,
    FINGERPRINT,
    MODEL,
    REASON_LENGTH,
    ROWS,
    TRAINING,
    WORKSPACE,
    Container,
)
from synth_dspy.training.spec import read_spec

TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """Train as the container's files say; the exit status."""
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    container = Container.here()
    try:
        return _run(container)
    except Cancelled:
        return TERMINATED
    except Exception as error:
        if not isinstance(error, SynthDspyError):
            traceback.print_exc()
        reason = explain_failure(error)
        print(reason, flush=True)
        container.failure.parent.mkdir(parents=True, exist_ok=True)
        container.failure.write_text(reason[:REASON_LENGTH], encoding="utf-8")
        return 1


def _run(container: Container) -> int:
    hosts = container.config("resourceconfig")
    if hosts.get("current_host") != min(hosts.get("hosts") or [hosts.get("current_host")]):
        print("this training runs on one machine; another one has it", flush=True)
        return 0
    prepare(container)
    process, keeper = TrainingProcess(container.work), CheckpointKeeper(container)

    def stop(*_: Any) -> None:
        # In a thread: `cancel` waits for a lock that the interrupted code may hold.
        threading.Thread(target=process.cancel, name="stop").start()

    signal.signal(signal.SIGTERM, stop)

    def progress(step: int, steps: int) -> None:
        print(json.dumps({"event": "progress", "step": step, "steps": steps}), flush=True)
        keeper.keep()

    try:
        process.run(progress)
    except Cancelled:
        keeper.keep()
        raise
    except SynthDspyError:
        if read_result(container.work) is None:
            raise  # otherwise it was trained, and the result says what is wrong with it
    finally:
        stop_idle_worker()
    publish_result(container)
    return 0


def prepare(container: Container) -> None:
    """Write the training's folder: the job's spec with this machine's paths, its rows, and the last checkpoint.

    Raises:
        SetupError: something is missing, or is not what the run sent.
    """
    channel, work = container.channel(TRAINING), container.work
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    spec: dict[str, Any] = json.loads((channel / SPEC).read_text(encoding="utf-8"))
    for field in ROWS:
        if spec.get(field) is not None:
            shutil.copyfile(channel / f"{field}.jsonl", work / f"{field}.jsonl")
            spec[field] = f"{field}.jsonl"
    base = container.channel(MODEL)
    spec["model"] = str(next(base.glob("*.gguf"), base))
    if spec.get("adapters"):
        folder = container.channel(ADAPTERS)
        spec["adapters"] = [str(folder / str(number)) for number in range(len(spec["adapters"]))]
    if spec.pop("workspace", None) is not None and spec.get("reward") is not None:
        spec["workspace"] = str(container.channel(WORKSPACE))
    (work / SPEC).write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    expected, actual = container.config("hyperparameters").get(FINGERPRINT), read_spec(work / SPEC).fingerprint()
    if expected != actual:
        raise SetupError(
            f"The training's inputs have the fingerprint {actual}, and the run sent {expected}: something else wrote "
            "into its folder on S3, or the container has another version of synth_dspy; start the run again."
        )
    if container.checkpoint.is_file():
        with tarfile.open(container.checkpoint) as archive:
            archive.extractall(work, filter="data")
        last = last_checkpoint(work / CHECKPOINTS)
        print(f"resumes from {last.name if last else 'its plan'}", flush=True)


class CheckpointKeeper:
    """Copies the last checkpoint to where SageMaker keeps it."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._kept: Path | None = None

    def keep(self) -> None:
        """Copy the last checkpoint if it is new, in one step."""
        folder = self._container.work / CHECKPOINTS
        last = last_checkpoint(folder)
        if last is None or last == self._kept:
            return
        with suppress(FileNotFoundError):  # the training has replaced it meanwhile: the next call copies the new one
            # Not written in the folder of the copy, since what is there is sent to S3 at any time.
            staged = self._container.root / f".{CHECKPOINT}"
            with tarfile.open(staged, "w") as archive:
                for path in sorted(folder.iterdir()):
                    if path == last or path.is_file():
                        archive.add(path, f"{CHECKPOINTS}/{path.name}")
            self._container.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(staged, self._container.checkpoint)
            self._kept = last


def publish_result(container: Container) -> None:
    """Move what the training made to the folder that becomes the job's result."""
    container.model.mkdir(parents=True, exist_ok=True)
    inputs = {SPEC, CHECKPOINTS, *(f"{field}.jsonl" for field in ROWS)}
    for path in sorted(container.work.iterdir()):
        if path.name not in inputs and not path.name.startswith("."):
            shutil.move(path, container.model / path.name)


if __name__ == "__main__":
    sys.exit(main())
