"""What embedders behind an address have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from synth_dspy.core.errors import SetupError

if TYPE_CHECKING:
    from synth_dspy.models.embedder import Vectors


class RemoteEmbedder(ABC):
    """An embedding model that is asked for vectors.

    Args:
        name: the model string.
    """

    remedy: ClassVar[str]
    """What to do about vectors that cannot be used."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._dimension: int | None = None

    @property
    def dimension(self) -> int:
        """Length of a vector; makes a call if unknown."""
        if self._dimension is None:
            self.embed(["dimension"])
        assert self._dimension is not None
        return self._dimension

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`, float32, shape (texts, dimension).

        Raises:
            SetupError: the model cannot be reached or used.
            ModelError: every attempt failed.
        """
        import numpy as np

        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = self._vectors(texts)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise SetupError(
                f"The embedder {self.name} returned vectors of shape {vectors.shape} for {len(texts)} texts, or values "
                f"that are not finite: {self.remedy}."
            )
        self._dimension = int(vectors.shape[1])
        unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit

    @abstractmethod
    def _vectors(self, texts: Sequence[str]) -> Any:
        """The model's vectors of at least one text, as an array; `embed` checks and scales them."""
