"""Where a notebook runs, and where its runs go: SageMaker, or any other machine.

A SageMaker notebook instance and Studio both have the file `METADATA`; Studio's also names an `AppType`
(https://docs.aws.amazon.com/sagemaker/latest/dg/nbi-metadata.html,
https://docs.aws.amazon.com/sagemaker/latest/dg/notebooks-run-and-manage-metadata.html). On an instance only
`~/SageMaker` outlives a restart; in Studio the home folder does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

METADATA = Path("/opt/ml/metadata/resource-metadata.json")
PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Place:
    """A machine.

    Attributes:
        name: what it is.
        runs: folder of the notebooks' runs.
        quick: whether each notebook does the least that shows it working.
    """

    name: str
    runs: Path
    quick: bool

    def latest(self, notebook: str) -> Path:
        """The folder of the latest finished run of another notebook, such as `04_tune`.

        Raises:
            FileNotFoundError: it has none.
        """
        finished = sorted(path.parent for path in (self.runs / notebook).glob("*/*/results.json"))
        if not finished:
            raise FileNotFoundError(f"This notebook reads a run of {notebook}: run that one first.")
        return finished[-1]

    def __repr__(self) -> str:
        shown = self.runs.relative_to(PROJECT) if self.runs.is_relative_to(PROJECT) else self.runs
        size = "quick: too small to compare by" if self.quick else "full size; QUICK=1 does the least of everything"
        return f"{self.name}\nruns go to {shown} (NOTEBOOK_RUNS names another folder)\n{size}"


def find(metadata: Path = METADATA, environment: Mapping[str, str] = os.environ) -> Place:
    """The place where this runs.

    Args:
        metadata: the file that AWS puts on its machines.
        environment: `NOTEBOOK_RUNS` and `QUICK` are read from it.
    """
    name, runs = "a laptop or a server", PROJECT / "runs" / "notebooks"
    if metadata.is_file():
        app = json.loads(metadata.read_text(encoding="utf-8")).get("AppType")
        name = f"SageMaker Studio ({app})" if app else "a SageMaker notebook instance"
        runs = (Path.home() if app else Path.home() / "SageMaker") / "synth-dspy-runs"
    if environment.get("NOTEBOOK_RUNS"):
        runs = Path(environment["NOTEBOOK_RUNS"]).expanduser().resolve()
    return Place(name, runs, environment.get("QUICK", "0") not in ("", "0"))
