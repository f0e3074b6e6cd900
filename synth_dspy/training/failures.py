"""Explains why a training failed, and what to lower or fix."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Literal

from synth_dspy.core.errors import ArmError, SynthDspyError
from synth_dspy.training.spec import TrainSpec

Kind = Literal["arm", "memory", "loss"]

_NO_ROOM = ("no space left", "file size limit", "file too large", "disk quota", "pytorchstreamwriter failed")
_NO_ROOM_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TrainingError(ArmError):
    """A training that failed for a reason that the user can act on."""

    def __init__(self, message: str, kind: Kind = "arm") -> None:
        super().__init__(message)
        self.kind = kind


def as_user_error(error: BaseException, spec: TrainSpec, folder: Path) -> SynthDspyError | None:
    """The error to show to the user; None if it is a bug of ours."""
    if out_of_room(error):
        return TrainingError(
            f"There was no room to write {folder}: free some space and start the training again; it resumes."
        )
    if isinstance(error, SynthDspyError):
        return error
    import torch

    if is_out_of_memory(error):
        cuda, where = torch.cuda.is_available(), f"training.options.{spec.method}"
        rank = f"leave out {where}.lora = none" if spec.full else f"{where}.lora.rank (now {spec.lora.rank})"
        more_advice = f", set {where}.quantize" if cuda and not spec.quantize else ""
        more_advice += "" if spec.gradient_checkpointing else f", set {where}.gradient_checkpointing"
        return TrainingError(
            f"Memory ran out{' on the GPU' if cuda else ''} while training with {spec.method}: lower "
            f"{where}.max_tokens (now {spec.max_tokens}) or {rank}{more_advice}, or take a smaller model.",
            "memory",
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that main memory or the GPU's has run out."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error).lower()


def out_of_room(error: BaseException) -> bool:
    """Whether an error or one of its causes says that the disk is full. Libraries wrap it in their own types."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _NO_ROOM_CODES:
            return True
        if any(message in str(cause).lower() for message in _NO_ROOM):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
