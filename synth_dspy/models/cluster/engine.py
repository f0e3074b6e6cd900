"""The engine of a role whose calls are made by the workers of a Ray cluster.

    LedgerLM (dspy.LM) -> LedgerEngine -> ClusterEngine -> [a worker: LedgerEngine without a ledger -> the engine]

Key and seed of a call are determined in the driver, before it is sent; its answer is committed there, before the caller
sees it. So a ledger does not show which calls Ray made.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import dspy
from dspy import lm15

from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall
from synth_dspy.models import roles
from synth_dspy.models.cluster.cluster import Cluster
from synth_dspy.models.embedded.fingerprint import PREFIX, names_in_keys


def lm_on(cluster: Cluster | None, model: str, *, role: str, ledger: Ledger | None = None, **params: Any) -> dspy.LM:
    """`roles.lm_for`, with calls that a cluster's workers make; None: this process does."""
    lm = roles.lm_for(model, role=role, ledger=ledger, **params)
    sent = {name: value for name, value in params.items() if value is not None}
    sent.pop("provider", None)  # which trains, and stays here
    if cluster is not None and "batch" not in sent:  # a batch job is one for all calls
        lm.engine.inner = ClusterEngine(cluster, lm.engine.inner, model, role, sent)
    return lm


class ClusterEngine:
    """Sends calls to workers.

    Args:
        cluster: whose workers.
        inner: the engine that this process would use; answers what it can without a call, such as prices.
        model: the model string.
        role: student, teacher or judge.
        params: further arguments of `lm_for`.
    """

    def __init__(self, cluster: Cluster, inner: Any, model: str, role: str, params: Mapping[str, Any]) -> None:
        self.cluster = cluster
        self.inner = inner
        self._arguments = {"model": model, "role": role, **params}
        self._keys = {name: value for name in _key_names(model, params) if (value := os.environ.get(name))}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":  # `copy` asks before there are any
            raise AttributeError(name)
        return getattr(self.inner, name)

    def submit(self, request: lm15.Request, call: ModelCall, ledger: Ledger | None) -> Future[ModelCall]:
        """Make a call; the future returns it answered and committed."""

        async def answer() -> ModelCall:
            try:
                weights = names_in_keys(request.model)[0] if request.model.startswith(PREFIX) else None
                answered = await self.cluster.answer(self._spec, self._keys, weights, request, call)
            except Exception as error:
                if ledger is not None:
                    ledger.record_failure(call, error)
                raise
            if ledger is not None:
                ledger.record(answered)
            return answered

        if ledger is not None:
            self.cluster.finish_before_close(ledger)
        return self.cluster.submit(answer())

    def check(self, model: str) -> None:
        """Load an embedded model in every worker.

        Raises:
            SetupError: it cannot be used there.
        """
        self.cluster.run(self.cluster.check(self._spec, self._keys, model))

    def with_attempts(self, attempts: int) -> ClusterEngine:
        """The same model with another number of attempts."""
        other = copy.copy(self)
        other._arguments = {**self._arguments, "attempts": attempts}
        return other

    @property
    def _spec(self) -> str:
        return json.dumps(self._arguments, sort_keys=True)


def _key_names(model: str, params: Mapping[str, Any]) -> list[str]:
    """Environment variables with the key that a hosted model needs, and its address.

    A worker has its own role in a cloud, so nothing of the provider's standard chain is sent.
    """
    if model.startswith(PREFIX):
        return []
    provider = model.partition("/")[0].removesuffix("_chat").upper()
    named = [params["api_key_name"]] if params.get("api_key_name") else []
    return [
        *named,
        "OPENAI_API_KEY",
        "OPENAI_API_BASE",
        "OPENAI_BASE_URL",
        f"{provider}_API_KEY",
        f"{provider}_API_BASE",
    ]
