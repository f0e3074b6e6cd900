"""Checkpoints, from which a killed training resumes, and atomic writing of files.

A checkpoint is written to a staging folder and then moved, so that a folder with its name is always complete. It holds
the adapter (safetensors), the optimizer and the random state, which are loaded with `weights_only=True`.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.core.io.files import sync
from synth_dspy.models.weights.cache import publish

if TYPE_CHECKING:
    import torch

PREFIX = "checkpoint-"
BEST = "best.safetensors"


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder."""
    checkpoints = [path for path in folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return max(checkpoints, key=lambda path: int(path.name.removeprefix(PREFIX)), default=None)


def publish_checkpoint(staged: Path, place: Path) -> None:
    """Move a complete checkpoint to its place, then remove the older ones."""
    shutil.rmtree(place, ignore_errors=True)
    staged.replace(place)
    for path in place.parent.glob(f"{PREFIX}*"):
        if path != place:
            shutil.rmtree(path, ignore_errors=True)


def write_json(place: Path, value: Any) -> None:
    """Write JSON atomically, and flushed to the disk."""
    with publish(place) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        sync(part)


@dataclass(frozen=True, slots=True)
class Best:
    """Where the loss on the dev rows was best: the loss, the step, and the reward accuracy there if it is known."""

    loss: float
    step: int
    accuracy: float | None = None


def save_best(folder: Path, weights: dict[str, torch.Tensor], best: Best) -> None:
    """Save the adapter's weights with the best loss on the dev rows so far."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with publish(folder / BEST) as part:
        save_file(tensors, part, metadata={"best": json.dumps(asdict(best))})


def read_best(folder: Path) -> Best | None:
    """The evaluation that gave the best weights so far; None if there was none."""
    from safetensors import safe_open

    if not (folder / BEST).is_file():
        return None
    with safe_open(folder / BEST, framework="pt") as file:
        return Best(**json.loads(file.metadata()["best"]))


def load_best(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that `save_best` saved."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = load_file(folder / BEST)
    return weights
