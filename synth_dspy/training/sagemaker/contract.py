"""What a training job and its container agree on: folders, channels, and the names of files in them.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError

ROOT = "SYNTH_DSPY_ML_ROOT"
"""Environment variable with the folder that stands for /opt/ml."""
STANDARD_ROOT = "/opt/ml"
TRAINING, MODEL, ADAPTERS, WORKSPACE, CODE = "training", "model", "adapters", "workspace", "code"
"""Channels: the spec and its rows; the base; earlier adapters by number; the reward's workspace; wheels."""
FINGERPRINT, NAME = "fingerprint", "training"
"""Hyperparameters: what the spec's fingerprint has to be, and the name of the training's folder."""
CHECKPOINT = "checkpoint.tar"
"""The last checkpoint. One file, since an object appears on S3 whole and a folder does not."""
REASON_LENGTH = 1024
"""Characters of a failure that SageMaker passes on."""
ROWS = ("rows", "dev", "prompts")
"""Fields of a spec that name files of rows; in the channel they are `<field>.jsonl`."""


@dataclass(frozen=True, slots=True)
class Container:
    """The folders of a training container.

    Attributes:
        root: /opt/ml.
    """

    root: Path

    @classmethod
    def here(cls) -> Container:
        """The container that this process runs in."""
        return cls(Path(os.environ.get(ROOT) or STANDARD_ROOT))

    @property
    def model(self) -> Path:
        """What is put here becomes the job's result."""
        return self.root / "model"

    @property
    def failure(self) -> Path:
        """Receives why a job failed."""
        return self.root / "output" / "failure"

    @property
    def checkpoint(self) -> Path:
        """Is copied to S3 while the job runs, and back when it is restarted."""
        return self.root / "checkpoints" / CHECKPOINT

    @property
    def work(self) -> Path:
        """The training's folder, which is lost with the machine."""
        return self.root / "work" / str(self.config("hyperparameters").get(NAME, NAME))

    def config(self, name: str) -> dict[str, Any]:
        """`hyperparameters`, `inputdataconfig` or `resourceconfig`.

        Raises:
            SetupError: SageMaker has not written it, so this is no training container.
        """
        path = self.root / "input" / "config" / f"{name}.json"
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SetupError(
                f"{path} cannot be read ({error}): this command is the entry point of a SageMaker training job; "
                "elsewhere use `python -m synth_dspy.train spec.json`."
            ) from error
        return value if isinstance(value, dict) else {}

    def channel(self, name: str) -> Path:
        """The folder of an input channel.

        Raises:
            SetupError: the job has no such channel.
        """
        folder = self.root / "input" / "data" / name
        if name not in self.config("inputdataconfig") or not folder.is_dir():
            raise SetupError(
                f"The training job has no input channel {name!r}: make it with --training.backend sagemaker."
            )
        return folder
