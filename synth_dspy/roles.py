"""Roles: student, teacher, judge and embedder, each named by a model string.

`embedded/<name or path>` is served in this process; anything else is what dspy.LM takes. Chat models behind
OpenAI-compatible servers (`openai/<name>`, or any name with `api_base`) go through this package's own HTTP engine, the
others (`bedrock/...`, `ollama_chat/...`, ...) through DSPy's.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from synth_dspy.errors import ModelError, SetupError

if TYPE_CHECKING:
    import dspy

    from synth_dspy.ledger import Ledger
    from synth_dspy.lms.embedder import Embedder

EMBEDDED = "embedded/"
OWN_API = {"ollama", "ollama_chat", "bedrock", "sagemaker", "sagemaker_chat", "anthropic", "gemini", "vertex_ai", "azure"}
"""Prefixes of providers that keep their own protocol even when an address is given."""


def lm_for(model: str, *, role: str, ledger: Ledger | None = None, **params: Any) -> dspy.LM:
    """The LM of a role; its calls go through `ledger`.

    Args:
        model: the model string.
        role: student, teacher or judge: whom the ledger books the calls to.
        ledger: None makes every call anew.
        params: arguments of `dspy.LM` (`temperature`, `max_tokens`, `provider`, ...). For servers also `api_base`,
            `api_key_name` (the environment variable that holds the key), `timeout` in seconds, `connections` on the
            wire at once, and `attempts` at a call. None means not given.

    Raises:
        SetupError: the model string is malformed, no such embedded model exists, or the key is missing.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # else the first call tries to download prices
    from synth_dspy.lms.ledger_lm import LedgerEngine, LedgerLM

    params = {name: value for name, value in params.items() if value is not None}
    prefix, slash, name = model.partition("/")
    if not model or (slash and not name):
        raise SetupError(f"The model string {model!r} of the role {role} names no model: write it as provider/name.")
    if model.startswith(EMBEDDED):
        from synth_dspy.lms.engine import AsyncEmbeddedEngine, EmbeddedEngine

        for server_setting in ("api_base", "api_key_name", "timeout", "connections", "attempts"):
            params.pop(server_setting, None)
        engine = EmbeddedEngine()
        asynchronous = AsyncEmbeddedEngine()
        portable = {"engine": engine, "async_engine": asynchronous}
        wrapped = LedgerEngine(engine, asynchronous=asynchronous, ledger=ledger, role=role, seeded=True)
        return LedgerLM(model, engine=wrapped, portable=portable, **params)
    if prefix == "openai" or ("api_base" in params and prefix not in OWN_API):
        return _http_lm(model, role, ledger, params)
    return _dspy_lm(model, role, ledger, params)


def _http_lm(model: str, role: str, ledger: Ledger | None, params: dict[str, Any]) -> dspy.LM:
    from synth_dspy.lms.http import OPENAI, HttpEngine
    from synth_dspy.lms.ledger_lm import LedgerEngine, LedgerLM

    settings = {name: params.pop(name) for name in ("timeout", "connections", "attempts") if name in params}
    # Resolved here: left to DSPy, these variables would silently move every call to a slower engine.
    ambient = os.environ.get("OPENAI_API_BASE") or os.environ.get("OPENAI_BASE_URL")
    api_base = params.pop("api_base", None) or ambient or OPENAI
    key_name = params.pop("api_key_name", "OPENAI_API_KEY")
    key = os.environ.get(key_name)
    if api_base == OPENAI and not key:
        raise SetupError(
            f"The {role} model {model} needs a key: set {key_name} in the environment, "
            "or name a server that needs none with --models.api-base."
        )
    engine = HttpEngine(api_base, api_key=key, key_name=key_name, **settings)
    wrapped = LedgerEngine(engine, ledger=ledger, role=role)
    return LedgerLM(model, engine=wrapped, portable={"api_base": api_base}, **params)


def _dspy_lm(model: str, role: str, ledger: Ledger | None, params: dict[str, Any]) -> dspy.LM:
    import dspy

    from synth_dspy.lms.ledger_lm import AsyncDelegate, Delegate, LedgerEngine, LedgerLM

    params.pop("connections", None)
    key_name = params.pop("api_key_name", None)
    client = {name: params.pop(name) for name in ("api_base", "timeout") if name in params}
    key = {"api_key": os.environ[key_name]} if key_name and key_name in os.environ else {}
    inner = dspy.LM(model, cache=False, num_retries=params.pop("attempts", 8) - 1, **client, **key)
    wrapped = LedgerEngine(Delegate(inner), asynchronous=AsyncDelegate(inner), ledger=ledger, role=role)
    return LedgerLM(model, engine=wrapped, portable=client, **params)


def embedder_for(model: str, *, api_base: str | None = None) -> Embedder:
    """The embedder that a model string names: texts to unit vectors, an array of shape (texts, dimension).

    Raises:
        SetupError: no such embedded model exists.
    """
    from synth_dspy.lms import embedder

    if model.startswith(EMBEDDED):
        return embedder.EmbeddedEmbedder(model.removeprefix(EMBEDDED))
    return HostedEmbedder(model, api_base=api_base)


class HostedEmbedder:
    """An embedding model behind any provider that LiteLLM knows. Vectors are normalised."""

    def __init__(self, model: str, *, api_base: str | None = None) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")
        import dspy

        self.name = model
        self._embed = dspy.Embedder(model, caching=False, **({"api_base": api_base} if api_base else {}))

    def __call__(self, texts: Any) -> Any:
        import numpy as np

        try:
            vectors = np.asarray(self._embed(list(texts)), dtype=np.float32)
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise SetupError(
                f"The embedder {self.name} failed: {text}. Correct --models.embedder, or set the provider's key."
            ) from error
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def check(lm: dspy.LM) -> None:
    """Find out whether a role's model can be used before an hour of work is spent: load it, or ask it for one token.

    Raises:
        SetupError: it cannot be used; says why.
    """
    from dspy import lm15

    from synth_dspy.ledger import unit

    engine = lm.engine
    if lm.model.startswith(EMBEDDED):
        with engine.inner.models.lease(lm.model.removeprefix(EMBEDDED)):
            return
    prober = copy.copy(engine)
    if hasattr(engine.inner, "attempts"):  # a wrong address should not take a minute of retries to show
        prober.inner = copy.copy(engine.inner)
        prober.inner.attempts = 2
    request = lm15.Request(lm.model, (lm15.Message.user("Hello"),), config=lm15.Config(max_tokens=1))
    try:
        with unit(station="check"):
            lm.copy(engine=prober)(request)
    except ModelError as error:
        raise SetupError(str(error)) from error
    except lm15.LM15Error as error:
        raise SetupError(f"The {engine.role} model {lm.model} refused a first request: {error}") from error
