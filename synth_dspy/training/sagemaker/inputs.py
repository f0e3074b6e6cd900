"""What a training job reads: spec and rows, the base, earlier adapters, the reward's workspace, this package."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.s3.objects import addresses_in, upload_file
from synth_dspy.models.weights.registry import resolve
from synth_dspy.models.weights.trained import SPEC
from synth_dspy.training.sagemaker.contract import ADAPTERS, CODE, MODEL, ROWS, TRAINING, WORKSPACE
from synth_dspy.training.sagemaker.wheel import build_wheel
from synth_dspy.training.spec import TrainSpec

_WORKSPACE = ("programs", "optimizers", "eval")
"""Folders of a workspace whose Python files a reward may import."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training's files lie on S3.

    Attributes:
        home: `s3://bucket/folder/<run>/sagemaker`.
        training: the name of the training's folder.
    """

    home: str
    training: str

    @property
    def inputs(self) -> str:
        """The folder of the channels that are this training's own."""
        return f"{self.home}/{self.training}/input"

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoint."""
        return f"{self.home}/{self.training}/checkpoints/"

    @property
    def output(self) -> str:
        """The folder that receives the results of jobs."""
        return f"{self.home}/{self.training}/output/"


def send_inputs(folder: Path, spec: TrainSpec, place: Place) -> dict[str, str]:
    """Upload what a training reads, except for what is there already; the folder of each channel.

    Args:
        folder: the training's folder.
        spec: what it trains.
        place: where its files lie.

    Raises:
        SetupError: something cannot be read or uploaded.
    """
    weights = resolve(spec.model)
    channels = {TRAINING: f"{place.inputs}/{TRAINING}/", MODEL: f"{place.home}/models/{_digest(weights)}/"}
    files = {f"{channels[TRAINING]}{SPEC}": folder / SPEC}
    for field in ROWS:
        if (path := getattr(spec, field)) is not None:
            files[f"{channels[TRAINING]}{field}.jsonl"] = path
    files |= {f"{channels[MODEL]}{name}": path for name, path in _files(weights)}
    if spec.adapters:
        channels[ADAPTERS] = f"{place.inputs}/{ADAPTERS}/"
        for number, adapter in enumerate(spec.adapters):
            files |= {f"{channels[ADAPTERS]}{number}/{name}": path for name, path in _files(adapter)}
    if spec.reward is not None and spec.workspace is not None:
        channels[WORKSPACE] = f"{place.inputs}/{WORKSPACE}/"
        for part in _WORKSPACE:
            for path in sorted((spec.workspace / part).rglob("*.py")):
                files[f"{channels[WORKSPACE]}{path.relative_to(spec.workspace).as_posix()}"] = path
    with tempfile.TemporaryDirectory(prefix="wheel-") as scratch:
        wheel = build_wheel(Path(scratch))
        channels[CODE] = f"{place.home}/code/{_digest(wheel)}/"
        files[f"{channels[CODE]}{wheel.name}"] = wheel
        present = {uri for channel in channels.values() for uri in addresses_in(channel)}
        for uri, path in files.items():
            if uri not in present:
                upload_file(path, uri)
    return channels


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """The files of a model or an adapter by their names in it."""
    if path.is_file():
        yield path.name, path
        return
    for each in sorted(path.rglob("*")):
        name = each.relative_to(path)
        if each.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix(), each


def _digest(path: Path) -> str:
    whole = hashlib.sha256()
    for name, each in _files(path):
        with each.open("rb") as file:
            whole.update(f"{name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:16]
