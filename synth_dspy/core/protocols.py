"""Interfaces of a task's parts; DSPy's own where it has one."""

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
    """`candidate -> Verdict`. Must be thread-safe, unless its attribute `ordered` is true.

    A filter of one domain declares the unit it needs: `candidate: Candidate[RequestUnit]`.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, candidate: Candidate[Any]) -> Verdict: ...


class Metric(Protocol):
    """DSPy's convention: a score in [0, 1] of one prediction against one example."""

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float: ...


class Optimizer(Protocol):
    """DSPy's interface: compile a program on a trainset, select on a valset. An arm of the report is one of these."""

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module: ...


class Judge(Protocol):
    """A metric that can also score many rows at once, where that is faster.

    `agreement` is its measured agreement with human labels on answers such as this task's (keys `n`, `kappa`, `auroc`,
    `accuracy`, `source`, and optionally the pairs `kappa_interval` and `auroc_interval`), empty if it was never
    measured; the report prints it next to the scores. If it also has `n_right` and `n_wrong`, how many right and wrong
    answers were labelled, and `sensitivity` and `specificity`, the shares of them that the judge labels alike, the
    report corrects the arms' shares of right answers for the judge's errors. Abstentions do not count among them.

    A judge may have a `threshold`, the lowest score of an answer that it calls right; the default is 0.5.
    """

    name: str

    @property
    def agreement(self) -> Mapping[str, Any]: ...

    def __call__(self, example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float: ...

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]: ...


class Embed(Protocol):
    """Maps texts to unit vectors, float32, shape (texts, dimension)."""

    def __call__(self, texts: Sequence[str], /) -> Vectors: ...


class Embedder(Protocol):
    """Maps texts to vectors. `name` must change whenever the vectors do."""

    name: str

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of `texts`, float32, shape (texts, dimension)."""
        ...


class Retriever(Protocol):
    """Search over a task's documents; thread-safe."""

    def search(self, query: str, document: str | None = None, words: int = ..., wording: str = ...) -> list[Passage]:
        """Passages for a question: of one document, in its order, or of all documents, best first.

        Args:
            query: The question.
            document: Search this document only; None: all documents.
            words: Maximum number of words of all passages together.
            wording: Language in which the documents may answer it, searched for too; "": none.
        """
        ...

    def text(self, document: str) -> str:
        """The whole text of a document; empty if it is not indexed."""
        ...
