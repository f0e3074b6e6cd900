"""Embedding models on Amazon Bedrock: Titan (one text a call) and Cohere (up to 96)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from synth_dspy.core import aws
from synth_dspy.core.errors import SetupError
from synth_dspy.models.bedrock.calls import model_id, retrying

if TYPE_CHECKING:
    from synth_dspy.models.embedder import Vectors

_CONCURRENT = 16
_ATTEMPTS = 8
_COHERE_BATCH = 96
_TITAN_CHARACTERS = 50_000
"""The longest text that Titan takes; the rest of a longer one is not embedded."""


class BedrockEmbedder:
    """An embedding model of the families Titan and Cohere.

    Args:
        model: `bedrock/<name>`.
        endpoint: another address than AWS's.

    Raises:
        SetupError: it is of another family, or boto3 or a region is missing.
    """

    def __init__(self, model: str, *, endpoint: str | None = None) -> None:
        self.name = model
        self._id = model_id(model)
        self._cohere = "cohere.embed" in self._id
        if not self._cohere and "amazon.titan-embed-text" not in self._id:
            raise SetupError(
                f"{model} is not an embedding model of the families that are supported on Bedrock: name "
                "bedrock/amazon.titan-embed-text-v2:0 or bedrock/cohere.embed-multilingual-v3."
            )
        self._runtime = aws.client("bedrock-runtime", endpoint=endpoint, connections=_CONCURRENT, attempts=1)
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
            SetupError: the model cannot be used.
            ModelError: every attempt failed.
        """
        import numpy as np

        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        bodies = list(self._bodies([text if text.strip() else "(empty)" for text in texts]))
        with ThreadPoolExecutor(min(_CONCURRENT, len(bodies))) as pool:
            rows = [row for part in pool.map(self._request, bodies) for row in part]
        vectors = np.asarray(rows, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise SetupError(
                f"The embedder {self.name} returned vectors of shape {vectors.shape} for {len(texts)} texts, or values "
                "that are not finite: name another with --models.embedder."
            )
        self._dimension = int(vectors.shape[1])
        unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit

    def _bodies(self, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
        if not self._cohere:
            yield from ({"inputText": text[:_TITAN_CHARACTERS]} for text in texts)
            return
        # Passages and questions share a protocol that does not tell them apart, so both are embedded as documents.
        for start in range(0, len(texts), _COHERE_BATCH):
            part = [*texts[start : start + _COHERE_BATCH]]
            yield {"texts": part, "input_type": "search_document", "truncate": "END", "embedding_types": ["float"]}

    def _request(self, body: dict[str, Any]) -> list[list[float]]:
        def attempt() -> list[list[float]]:
            reply = self._runtime.invoke_model(
                modelId=self._id, body=json.dumps(body), contentType="application/json", accept="application/json"
            )
            text = reply["body"].read()
            try:
                embeddings = json.loads(text)["embeddings" if self._cohere else "embedding"]
                if not self._cohere:
                    return [embeddings]
                rows: list[list[float]] = embeddings["float"] if isinstance(embeddings, dict) else embeddings
                return rows
            except (LookupError, TypeError) as error:
                raise ValueError(f"the reply holds no embedding: {text[:300]!r}") from error

        return retrying(attempt, self.name, self._runtime, attempts=_ATTEMPTS)
