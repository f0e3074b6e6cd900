"""Embedding models on Amazon Bedrock: Titan (one text a call) and Cohere (up to 96)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from synth_dspy.core import aws
from synth_dspy.core.errors import SetupError
from synth_dspy.models.bedrock.calls import model_id, retrying
from synth_dspy.models.remote_embedder import RemoteEmbedder

_CONCURRENT = 16
_ATTEMPTS = 8
_COHERE_BATCH = 96
_TITAN_CHARACTERS = 50_000
"""The longest text that Titan takes; the rest of a longer one is not embedded."""


class BedrockEmbedder(RemoteEmbedder):
    """An embedding model of the families Titan and Cohere.

    Args:
        model: `bedrock/<name>`.
        endpoint: another address than AWS's.

    Raises:
        SetupError: it is of another family, or boto3 or a region is missing.
    """

    remedy = "name another with --models.embedder"

    def __init__(self, model: str, *, endpoint: str | None = None) -> None:
        super().__init__(model)
        self._id = model_id(model)
        self._cohere = "cohere.embed" in self._id
        if not self._cohere and "amazon.titan-embed-text" not in self._id:
            raise SetupError(
                f"{model} is not an embedding model of the families that are supported on Bedrock: name "
                "bedrock/amazon.titan-embed-text-v2:0 or bedrock/cohere.embed-multilingual-v3."
            )
        self._runtime = aws.client("bedrock-runtime", endpoint=endpoint, connections=_CONCURRENT, attempts=1)

    def _vectors(self, texts: Sequence[str]) -> Any:
        import numpy as np

        bodies = list(self._bodies([text if text.strip() else "(empty)" for text in texts]))
        with ThreadPoolExecutor(min(_CONCURRENT, len(bodies))) as pool:
            rows = [row for part in pool.map(self._request, bodies) for row in part]
        return np.asarray(rows, dtype=np.float32)

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
