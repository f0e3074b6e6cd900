"""The interfaces that a task's parts have: DSPy's shapes where DSPy has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from synth_dspy.core.knowledge import Candidate, Passage, Verdict

if TYPE_CHECKING:
    import dspy
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]


class Filter(Protocol):
    """`candidate -> Verdict`. Must be safe to call from several threads; order-dependent ones say so.

    A filter of one domain names the unit that it needs: `candidate: Candidate[RequestUnit]`.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, candidate: Candidate[Any]) -> Verdict: ...


class Metric(Protocol):
    """DSPy's convention: a score in [0, 1] of one prediction against one example."""

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float: ...


class Optimizer(Protocol):
    """DSPy's shape: compile a program on a trainset, choose on a valset. An arm of the report is one of these."""

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module: ...


class Judge(Protocol):
    """A judge has a metric's face, and scores many rows at once where that is faster.

    `agreement` says how well it agrees with human labels (keys `n`, `kappa`, `auroc`, `accuracy`, `source`, and where
    they are known `kappa_interval` and `auroc_interval`, pairs), or is empty where nobody has measured it; the report
    prints it beside the scores.
    """

    name: str

    @property
    def agreement(self) -> Mapping[str, Any]: ...

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float: ...

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]: ...


class Embed(Protocol):
    """Texts to unit vectors, float32, shape (texts, dimension): an embedder's method, or any function."""

    def __call__(self, texts: Sequence[str], /) -> Vectors: ...


class Embedder(Protocol):
    """What turns texts into vectors. `name` changes whenever the vectors do."""

    name: str

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`, float32, shape (texts, dimension)."""
        ...


class Retriever(Protocol):
    """Search over a task's documents; may be used from several threads."""

    def search(self, query: str, document: str | None = None, words: int = ..., wording: str = ...) -> list[Passage]:
        """Passages for a question: in one document, in its order, or over all, the best first.

        Args:
            query: The question.
            document: Look in this document only. None: in all.
            words: Most words that the passages may hold together.
            wording: Language in which the documents may answer it, searched for too; "": none.
        """
        ...

    def text(self, document: str) -> str:
        """The whole text of a document, "" for one that is not indexed."""
        ...
