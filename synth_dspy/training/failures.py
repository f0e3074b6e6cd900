"""Why a training failed, in one sentence that says what to lower or mend."""

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
    """A training that failed for a reason that its user can act on."""

    def __init__(self, message: str, kind: Kind = "arm") -> None:
        super().__init__(message)
        self.kind = kind


def told(error: BaseException, spec: TrainSpec, folder: Path) -> SynthDspyError | None:
    """What the user is told of an error; None if it is nobody's but ours."""
    if out_of_room(error):
        return TrainingError(
            f"There was no room to write {folder}: free some space; the training, started again, goes on."
        )
    if isinstance(error, SynthDspyError):
        return error
    import torch

    words = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in words:
        cuda, where = torch.cuda.is_available(), f"training.options.{spec.method}"
        saver = f", set {where}.quantize" if cuda and not spec.quantize else ""
        saver += "" if spec.gradient_checkpointing else f", set {where}.gradient_checkpointing"
        return TrainingError(
            f"Memory ran out{' on the GPU' if cuda else ''} while training with {spec.method}: lower "
            f"{where}.max_tokens (now {spec.max_tokens}) or {where}.lora.rank (now {spec.lora.rank}){saver}, or "
            "take a smaller model.",
            "memory",
        )
    return None


def out_of_room(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that a file could not grow. Libraries wrap it in their own types."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NO_ROOM_CODES:
            return True
        if any(words in str(seen).lower() for words in _NO_ROOM):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
