"""What was fitted to say, without a language model, whether passages support a statement: one JSON file.

Two fits of the same features. `grounded` rates an answer by its passages. `retrieval` rates a reference, after its
question, by the passages that were retrieved for the question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.evaluation.groundedness.features import FEATURES
from synth_dspy.evaluation.reference_judge.trees import Trees

PARAMETERS = Path(__file__).with_name("parameters.json")
"""Written by `python tests/benchmarks/groundedness.py ../shared/data --write`."""

Part = Literal["grounded", "retrieval"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Boosted trees, and their agreement with people on groups outside the fit.

    Attributes:
        trees: the log-odds of support.
        agreement: n, accuracy, kappa, auroc and more on human labels; `by_kind` has those of each kind of row.
    """

    trees: Trees
    agreement: Mapping[str, Any]

    def scores(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of support in [0, 1], shape (rows,), of features of shape (rows, len(FEATURES))."""
        probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-self.trees.raw(table)))
        return probability


@dataclass(frozen=True, slots=True)
class Parameters:
    """Both fits, and the embedder that their features were computed with."""

    embedder: str
    grounded: Fitted
    retrieval: Fitted

    def save(self, path: Path) -> None:
        """Write the parameters as JSON, a line for each part."""
        stored: dict[str, Any] = {"embedder": self.embedder, "features": FEATURES}
        for name, part in (("grounded", self.grounded), ("retrieval", self.retrieval)):
            stored[name] = {"agreement": part.agreement, "trees": part.trees.to_json()}
        lines = ",\n".join(f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in stored.items())
        path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path = PARAMETERS) -> Parameters:
        """Read what `save` wrote.

        Raises:
            SetupError: there is no such file, or it is damaged, or of other features.
        """
        what, remedy = "The groundedness judge's file", "install synth_dspy again"
        stored = read_json_object(path, what, remedy)
        try:
            read = _Stored.model_validate(stored)
            if read.features != FEATURES:
                raise ValueError("its features are those of another version")
            parts = [
                Fitted(Trees.from_json(part.trees, len(FEATURES)), part.agreement)
                for part in (read.grounded, read.retrieval)
            ]
        except (ValidationError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise SetupError(f"{what} {path} is damaged ({reason}); {remedy}.") from error
        return cls(read.embedder, *parts)


class _StoredPart(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    agreement: dict[str, Any]
    trees: dict[str, Any]


class _Stored(BaseModel):
    """What `Parameters.save` writes."""

    embedder: str = Field(min_length=1)
    features: tuple[str, ...]
    grounded: _StoredPart
    retrieval: _StoredPart
