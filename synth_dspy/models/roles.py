"""The models of the roles student, teacher, judge and embedder, from their model strings.

`embedded/<name or path>` is served in this process; anything else is as for dspy.LM. Chat models behind
OpenAI-compatible servers (`openai/<name>`, or any name with `api_base`) use this package's HTTP engine, the others
(`ollama_chat/...`, `gemini/...`, ...) DSPy's. `bedrock/...` and `sagemaker/...` (an endpoint) are AWS's, through boto3.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from synth_dspy.core.addresses import refuse_plain_http, setting
from synth_dspy.core.config import MAX_REPLY_MB
from synth_dspy.core.errors import BusyError, ModelError, SetupError
from synth_dspy.core.masking import mask_message, url_secrets, without_credentials
from synth_dspy.models.offline import quiet_libraries
from synth_dspy.models.prices import given_price
from synth_dspy.models.remote_embedder import RemoteEmbedder

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.ledger import Ledger
    from synth_dspy.core.protocols import Embedder

EMBEDDED = "embedded/"
OWN_API = ("anthropic", "azure", "bedrock", "gemini", "ollama", "ollama_chat", "sagemaker", "vertex_ai")
"""Prefixes of providers that use their own protocol even with `api_base`."""

OLLAMA = ("ollama/", "ollama_chat/")
SERVER_SETTINGS = (
    "api_base", "api_key_name", "allow_http", "timeout", "connections", "attempts", "max_reply_mb", "price",
)  # fmt: skip
"""Arguments of `lm_for` for servers only; ignored for embedded models."""


def embedded_options() -> frozenset[str]:
    """The arguments of `lm_for` that an embedded model uses or ignores."""
    from synth_dspy.models.embedded.engine import EmbeddedEngine

    return EmbeddedEngine.supported_params | {"n", "rollout_id"} | set(SERVER_SETTINGS)


def lm_for(model: str, *, role: str, ledger: Ledger | None = None, **params: Any) -> dspy.LM:
    """The LM of a role; its calls go through `ledger`.

    Args:
        model: the model string.
        role: student, teacher or judge, recorded with every call.
        ledger: None: no caching.
        params: arguments of `dspy.LM` (`temperature`, `max_tokens`, `provider`, ...). For servers also `api_base`,
            `api_key_name` (the environment variable that holds the key), `allow_http` (whether a key may be sent
            unencrypted to another machine), `timeout` in seconds, `connections` (maximum concurrent requests),
            `attempts` per call, `max_reply_mb` (a longer reply is a failed attempt), and `price`: US dollars per
            million input and output tokens, by default the list price. For Bedrock also `batch`, the arguments of a
            `BatchEngine`. None means not given.

    Raises:
        SetupError: the model string is malformed, no such embedded model exists, the key is missing, or would be sent
            unencrypted to another machine.
    """
    quiet_libraries()
    from dspy.utils.exceptions import LMError

    params = {name: value for name, value in params.items() if value is not None}
    prefix, slash, name = model.partition("/")
    if not model or (slash and not name):
        raise SetupError(f"The model string {model!r} of the role {role} names no model: write it as provider/name.")
    if "batch" in params and prefix != "bedrock":
        raise SetupError(f"Batch jobs are Bedrock's, and the {role} is {model}: leave out --aws.batch.")
    if model.startswith(EMBEDDED):
        make = _embedded_lm
    elif prefix == "openai" or ("api_base" in params and prefix not in OWN_API):
        make = _http_lm
    elif prefix in ("bedrock", "sagemaker"):
        make = _aws_lm
    else:
        make = _dspy_lm
    try:
        return make(model, role, ledger, params)
    except (LMError, ValueError) as error:
        why = mask_message(" ".join(str(error).split()))
        raise SetupError(f"The {role} model {model} cannot be set up: {why}.") from error


def _embedded_lm(model: str, role: str, ledger: Ledger | None, params: dict[str, Any]) -> dspy.LM:
    from synth_dspy.models.embedded.engine import AsyncEmbeddedEngine, EmbeddedEngine
    from synth_dspy.models.embedded.fingerprint import names_in_keys
    from synth_dspy.models.ledger_lm import LedgerEngine, LedgerLM

    for server_setting in SERVER_SETTINGS:
        params.pop(server_setting, None)
    engine, asynchronous = EmbeddedEngine(), AsyncEmbeddedEngine()
    wrapped = LedgerEngine(
        engine, asynchronous=asynchronous, ledger=ledger, role=role, seeded=True, names=names_in_keys
    )
    return LedgerLM(model, engine=wrapped, portable={"engine": engine, "async_engine": asynchronous}, **params)


def _http_lm(model: str, role: str, ledger: Ledger | None, params: dict[str, Any]) -> dspy.LM:
    from synth_dspy.models.http.engine import OPENAI, HttpEngine
    from synth_dspy.models.ledger_lm import LedgerEngine, LedgerLM

    names = ("timeout", "connections", "attempts", "max_reply_mb")
    settings = {name: params.pop(name) for name in names if name in params}
    settings["price"] = given_price(params.pop("price", None), role)
    allowed = params.pop("allow_http", False)
    # Resolved here: left to DSPy, these variables would silently move every call to a slower engine.
    from_environment = os.environ.get("OPENAI_API_BASE") or os.environ.get("OPENAI_BASE_URL")
    api_base = params.pop("api_base", None) or from_environment or OPENAI
    key_name = params.pop("api_key_name", "OPENAI_API_KEY")
    key = os.environ.get(key_name)
    if api_base == OPENAI and not key:
        raise SetupError(
            f"The {role} model {model} needs a key: set {key_name} in the environment, "
            f"or name a server that needs no key with {setting('api_base')}."
        )
    if key:
        refuse_plain_http(api_base, key_name, role=role, allowed=allowed)
    engine = HttpEngine(api_base, api_key=key, key_name=key_name, **settings)
    wrapped = LedgerEngine(engine, ledger=ledger, role=role)
    return LedgerLM(model, engine=wrapped, portable={"api_base": without_credentials(api_base)}, **params)


def _aws_lm(model: str, role: str, ledger: Ledger | None, params: dict[str, Any]) -> dspy.LM:
    from synth_dspy.models.bedrock.engine import AsyncBedrockEngine, BedrockEngine
    from synth_dspy.models.ledger_lm import LedgerEngine, LedgerLM
    from synth_dspy.models.sagemaker import SageMakerEngine

    for name in ("api_key_name", "allow_http"):  # credentials are the standard chain's, and are never sent
        params.pop(name, None)
    names = ("timeout", "connections", "attempts", "max_reply_mb")
    settings = {name: params.pop(name) for name in names if name in params}
    settings["price"] = given_price(params.pop("price", None), role)
    address = params.pop("api_base", None)
    batch = params.pop("batch", None)
    engine: Any = (SageMakerEngine if model.startswith("sagemaker/") else BedrockEngine)(endpoint=address, **settings)
    if batch is not None:
        from synth_dspy.models.bedrock.batch import BatchEngine

        engine = BatchEngine(engine, **batch)
    wrapped = LedgerEngine(engine, asynchronous=None if batch else AsyncBedrockEngine(engine), ledger=ledger, role=role)
    portable = {"api_base": without_credentials(address)} if address else {}
    return LedgerLM(model, engine=wrapped, portable=portable, **params)


def _dspy_lm(model: str, role: str, ledger: Ledger | None, params: dict[str, Any]) -> dspy.LM:
    import dspy

    from synth_dspy.models.ledger_lm import AsyncDelegate, Delegate, LedgerEngine, LedgerLM

    params.pop("connections", None)
    price = given_price(params.pop("price", None), role)
    allowed, max_bytes = params.pop("allow_http", False), int(params.pop("max_reply_mb", MAX_REPLY_MB) * 1e6)
    key_name = params.pop("api_key_name", None)
    client: dict[str, Any] = {name: params.pop(name) for name in ("api_base", "timeout") if name in params}
    if model.startswith(OLLAMA) and "api_base" in client and urlsplit(client["api_base"]).path in ("", "/"):
        client["api_base"] = (
            client["api_base"].rstrip("/") + "/v1"
        )  # Ollama's OpenAI-compatible API, which DSPy's engine uses
    key = {"api_key": os.environ[key_name]} if key_name and key_name in os.environ else {}
    _refuse_plain_http(model, client.get("api_base"), key_name, role=role, allowed=allowed)
    inner = dspy.LM(model, cache=False, num_retries=params.pop("attempts", 8) - 1, **client, **key)
    engine, asynchronous = (each(inner, max_bytes=max_bytes, price=price) for each in (Delegate, AsyncDelegate))
    wrapped = LedgerEngine(engine, asynchronous=asynchronous, ledger=ledger, role=role)
    if "api_base" in client:
        client["api_base"] = without_credentials(client["api_base"])
    return LedgerLM(model, engine=wrapped, portable=client, **params)


def _refuse_plain_http(model: str, api_base: str | None, key_name: str | None, *, role: str, allowed: bool) -> None:
    """`refuse_plain_http` for LiteLLM's providers, which read their address and key from the environment."""
    provider = model.partition("/")[0].removesuffix("_chat").upper()
    address = api_base or os.environ.get(f"{provider}_API_BASE")
    key_name = key_name or f"{provider}_API_KEY"
    if address and os.environ.get(key_name):
        refuse_plain_http(address, key_name, role=role, allowed=allowed)


def embedder_for(model: str, *, api_base: str | None = None, allow_http: bool = False) -> Embedder:
    """The embedder of a model string.

    Args:
        model: the model string.
        api_base: address of an OpenAI-compatible server.
        allow_http: whether the key may be sent unencrypted to another machine.

    Raises:
        SetupError: the model string is malformed, or the key would be sent unencrypted to another machine.
    """
    prefix, slash, name = model.partition("/")
    if not prefix or not slash or not name:
        raise SetupError(f"The model string {model!r} of the embedder names no model: write it as provider/name.")
    if model.startswith(EMBEDDED):
        from synth_dspy.models.embedder import EmbeddedEmbedder

        return EmbeddedEmbedder(name)
    if prefix == "bedrock":
        from synth_dspy.models.bedrock.embedder import BedrockEmbedder

        return BedrockEmbedder(model, endpoint=api_base)
    own_key = api_base is None or model.partition("/")[0] in OWN_API
    _refuse_plain_http(model, api_base, None if own_key else "OPENAI_API_KEY", role="embedder", allowed=allow_http)
    return HostedEmbedder(model, api_base=api_base)


class HostedEmbedder(RemoteEmbedder):
    """An embedding model behind an OpenAI-compatible server, or of any provider that LiteLLM supports."""

    remedy = "correct --models.embedder or its server"

    def __init__(self, model: str, *, api_base: str | None = None) -> None:
        super().__init__(model)
        self._client = {"api_base": api_base} if api_base else {}
        if api_base and "OPENAI_API_KEY" not in os.environ:
            self._client["api_key"] = "none"  # the client library requires a key even if the server does not

    def _vectors(self, texts: Sequence[str]) -> Any:
        quiet_libraries()
        import dspy

        try:
            return dspy.Embedder(self.name, caching=False, **self._client)(list(texts))
        except Exception as error:  # LiteLLM has different types for each provider
            why = mask_message(" ".join(str(error)[:8000].split()), url_secrets(self._client.get("api_base", "")))[:300]
            raise SetupError(
                f"The embedder {self.name} could not be used: {why}. "
                "Correct --models.embedder or the address, or set the provider's key in the environment."
            ) from error


def check_named(lm: dspy.LM) -> None:
    """Check what can be known of a role's model without loading, fetching or asking it: its files, provider and key.

    Raises:
        SetupError: it cannot be used; says why.
    """
    if lm.model.startswith(EMBEDDED):
        from synth_dspy.models.embedded.backend import engine_of

        _check_files(lm.model, lm.engine.role, engine_of)
    else:
        lm.check_provider()


def check_named_embedder(model: str, *, api_base: str | None = None) -> None:
    """`check_named` for an embedder.

    Raises:
        SetupError: it cannot be used; says why.
    """
    if model.startswith(EMBEDDED):
        _check_files(model, "embedder")
    elif not model.startswith("bedrock/"):
        from dspy.utils.exceptions import LMError

        from synth_dspy.models.dspy_compat import check_provider

        try:
            check_provider(model, api_base)
        except LMError as error:
            raise SetupError(
                f"The embedder {model} names no known provider: write embedded/<name>, or provider/name as LiteLLM "
                f"does; for a server of your own, openai/<name> with {setting('api_base')}."
            ) from error
        if model.startswith("openai/") and not api_base and "OPENAI_API_KEY" not in os.environ:
            raise SetupError(
                f"The embedder {model} needs a key: set OPENAI_API_KEY in the environment, "
                f"or name a server that needs no key with {setting('api_base')}."
            )


def _check_files(model: str, role: str, further: Callable[[Path], Any] | None = None) -> None:
    """Check that the files of an embedded model exist, and `further`, unless they may still have to be fetched."""
    from synth_dspy.core.s3.address import is_address
    from synth_dspy.models.weights.registry import REGISTRY, resolve

    name = model.removeprefix(EMBEDDED)
    if name in REGISTRY or is_address(name):
        return
    try:
        path = resolve(name)
        if further is not None:
            further(path)
    except SetupError as error:
        raise SetupError(f"The {role} {model} cannot be used: {str(error).rstrip('.')}.") from error


def check(lm: dspy.LM) -> None:
    """Check that a role's model can be used, before any work is done.

    An embedded model is loaded. A server's list of models is requested, which costs nothing. If it does not list the
    model, and for any other provider, one token is generated.

    Raises:
        SetupError: it cannot be used; says why.
    """
    from dspy import lm15

    from synth_dspy.core.usage import unit

    engine = lm.engine
    if lm.model.startswith(EMBEDDED) and hasattr(engine.inner, "check"):
        engine.inner.check(lm.model)
        return
    if lm.model.startswith(EMBEDDED):
        from synth_dspy.models.embedded.generation import PipelineError
        from synth_dspy.models.embedded.precision import ENVIRONMENT, precision

        try:
            with engine.inner.models.lease(lm.model.removeprefix(EMBEDDED)) as server:
                server.token_ids("ready?")  # waits until the model is loaded
        except PipelineError as error:
            raise SetupError(
                f"The pipeline that serves the {engine.role} model {lm.model} could not be built in {precision()} on "
                f"this CPU: {' '.join(str(error).split())[:300]}. Try {ENVIRONMENT}=f32, replace the model's files if "
                f"they are damaged, or name another model with --models.{engine.role}."
            ) from error
        return
    if hasattr(engine.inner, "lists") and engine.inner.lists(lm.model):
        return
    probe_engine = copy.copy(engine)
    probe_engine.inner = engine.inner.with_attempts(2)  # a wrong address should fail fast
    request = lm15.Request(lm.model, (lm15.Message.user("Hello"),), config=lm15.Config(max_tokens=1))
    try:
        with unit(station="check"):
            try:
                lm.copy(engine=probe_engine)(request)
            except BusyError:  # it is there: waited for as during the run
                lm.copy(engine=engine)(request)
    except ModelError as error:
        raise SetupError(str(error)) from error


def describe_engine(lm: dspy.LM) -> str | None:
    """One line about which engine serves an embedded model, and why; None for any other model."""
    if not lm.model.startswith(EMBEDDED):
        return None
    from synth_dspy.models.embedded.backend import describe
    from synth_dspy.models.weights.registry import resolve

    return describe(resolve(lm.model.removeprefix(EMBEDDED)), lm.model)


def token_embedder(model: str) -> Any:
    """The embedder of a model string, which must support token vectors.

    Raises:
        SetupError: it does not support them.
    """
    embedder = embedder_for(model)
    if not hasattr(embedder, "embed_tokens"):
        raise SetupError(
            f"The reference judge compares token by token, which {model} cannot: use an embedded embedder."
        )
    return embedder
