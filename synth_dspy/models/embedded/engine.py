"""The embedded engine: DSPy's engine interface for models served in this process.

    lm = embedded_lm("smollm2-135m-instruct", max_tokens=64)      # a dspy.LM("embedded/smollm2-135m-instruct")
    lm = embedded_lm("path/to/model.gguf", temperature=0.7, seed=3)

Calls from many threads or coroutines are batched by the server. The request names the model (`embedded/<name or
path>`), so `lm.copy(model="embedded/...")` uses another model with the same engine. The engine has no state, so
programs can be saved as JSON.

Differences to a provider over HTTP: without a temperature, decoding is greedy; `seed` selects the sample (outside a
batch, the same request with the same seed gives the same reply); repeating an unseeded sampled request gives another
sample. Every response has `provider_data` with `cpu_seconds`, `queue_seconds` and `latency_seconds`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

from dspy import lm15
from dspy.lm15 import Config, Message, Request, Response, TextPart, Usage

from synth_dspy.core.errors import SetupError
from synth_dspy.models.embedded.generation import (
    DEFAULT_MAX_TOKENS,
    ContextWindowError,
    Generation,
    PipelineError,
    Sampling,
)
from synth_dspy.models.embedded.pool import ModelPool, pool
from synth_dspy.models.embedded.server import ModelServer
from synth_dspy.models.grammar import constraints as grammars
from synth_dspy.models.grammar.constraints import Grammar

PREFIX = "embedded/"
_PROVIDER = "embedded"


class _Embedded:
    """Base of the synchronous and the asynchronous engine."""

    supports_response_schema = True
    supports_function_calling = False
    supports_reasoning = False
    supported_params = frozenset(
        {
            "frequency_penalty",
            "max_tokens",
            "presence_penalty",
            "response_format",
            "seed",
            "stop",
            "temperature",
            "top_k",
            "top_p",
        }
    )

    def __init__(self, models: ModelPool | None = None) -> None:
        self._models = models

    @property
    def models(self) -> ModelPool:
        """The pool of models; by default the process's."""
        return self._models or pool()

    @contextmanager
    def _lease(self, request: Request) -> Iterator[ModelServer]:
        with ExitStack() as stack:
            try:
                server = stack.enter_context(self.models.lease(model_name(request.model)))
            except SetupError as error:  # DSPy expects lm15's errors
                raise lm15.UnsupportedModelError(str(error), provider=_PROVIDER) from error
            yield server

    def dump_state(self) -> dict[str, Any]:
        """Empty: the model and its parameters belong to the LM. Needed for saving programs."""
        return {}

    @classmethod
    def load_state(cls, state: Mapping[str, Any]) -> _Embedded:
        """Restore the engine. Raises `SetupError` for a state that this class did not write."""
        if state:
            raise SetupError(f"the saved engine state has unknown keys {sorted(state)}; was the file edited?")
        return cls()


class EmbeddedEngine(_Embedded):
    """One synchronous attempt per call. Thread-safe; concurrent calls fill the batches."""

    def complete(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            lm15.ContextLengthError: Prompt and reply do not fit the context window.
            lm15.UnsupportedFeatureError: Tools, images or a schema that cannot be constrained to.
            lm15.ServerError: The pipeline failed on this request, or the model could not be loaded.
            lm15.UnsupportedModelError: No such model, or its weights are not available.
        """
        with self._lease(request) as server:
            sampling, future = _submit(server, request)
            try:
                generation = future.result()
            except PipelineError as error:
                raise _canonical(error) from error
            finally:  # also removes the request from the batch after a KeyboardInterrupt
                server.cancel(future)
        return _response(request, sampling, generation)

    def stream(self, request: Request) -> Iterator[Any]:
        """The complete response as events, for callers that need streaming."""
        yield from lm15.response_to_events(self.complete(request))

    def close(self) -> None:
        """Nothing to do: the pool outlives engines and closes with the process."""


class AsyncEmbeddedEngine(_Embedded):
    """The asynchronous engine. Cancelling the awaiting task removes the request from the batch."""

    async def complete(self, request: Request) -> Response:
        """As `EmbeddedEngine.complete`."""
        # In a thread, since the first call waits seconds for the model. Shielded, since a task that is cancelled
        # meanwhile must still release what the thread has acquired.
        starting = asyncio.get_running_loop().run_in_executor(None, self._start, request)
        try:
            lease, server, sampling, future = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_abandon)
            raise
        try:
            generation = await asyncio.wrap_future(future)
        except PipelineError as error:
            raise _canonical(error) from error
        finally:
            server.cancel(future)
            lease.close()
        return _response(request, sampling, generation)

    def _start(self, request: Request) -> _Started:
        with ExitStack() as stack:
            server = stack.enter_context(self._lease(request))
            sampling, future = _submit(server, request)
            return stack.pop_all(), server, sampling, future

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """As `EmbeddedEngine.stream`."""
        for event in lm15.response_to_events(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Nothing to do."""


def embedded_lm(model: str, **params: Any) -> Any:
    """A `dspy.LM` on an embedded model.

    Args:
        model: A registry name, or the path of a GGUF file or model folder, with or without the `embedded/` prefix.
        **params: As for `dspy.LM`: `max_tokens`, `temperature`, `top_p`, `seed`, `stop`, ... DSPy's response cache
            is off unless `cache=True` is given (the run's ledger is the cache), and so are its retries.
    """
    import dspy

    params = {"cache": False, "num_retries": 0, **params}
    return dspy.LM(PREFIX + model_name(model), engine=EmbeddedEngine(), async_engine=AsyncEmbeddedEngine(), **params)


def model_name(model: str) -> str:
    """The registry name or path in an LM's model string."""
    return model.removeprefix(PREFIX)


_Started = tuple[ExitStack, ModelServer, Sampling, Future[Generation]]


def _abandon(starting: asyncio.Future[_Started]) -> None:
    """Release the resources of a call whose task was cancelled while it started."""
    if not starting.cancelled() and starting.exception() is None:
        lease, server, _, future = starting.result()
        server.cancel(future)
        lease.close()


def _submit(server: ModelServer, request: Request) -> tuple[Sampling, Future[Generation]]:
    try:
        sampling = _sampling(request.config)
        return sampling, server.submit(server.render(_messages(request)), sampling)
    except (ContextWindowError, PipelineError) as error:
        raise _canonical(error) from error


def _sampling(config: Config) -> Sampling:
    for feature in ("logprobs", "probabilities"):
        if getattr(config, feature) is not None:
            raise lm15.UnsupportedFeatureError(f"embedded models give no {feature}", feature=f"config.{feature}")
    if config.extensions:
        raise lm15.UnsupportedFeatureError(
            f"embedded models take no {sorted(config.extensions)}", feature="config.extensions"
        )
    max_tokens = config.max_tokens or DEFAULT_MAX_TOKENS
    grammar: Grammar | None = None
    if config.response_format is not None:
        try:
            grammar = grammars.from_response_format(config.response_format, max_tokens)
        except grammars.UnsupportedSchemaError as error:
            raise lm15.UnsupportedFeatureError(str(error), feature="config.response_format") from error
    return Sampling(
        max_tokens=max_tokens,
        temperature=config.temperature or 0.0,
        top_p=1.0 if config.top_p is None else config.top_p,
        top_k=config.top_k,
        seed=config.seed,
        stop=config.stop,
        presence_penalty=config.presence_penalty or 0.0,
        frequency_penalty=config.frequency_penalty or 0.0,
        grammar=grammar,
    )


def _messages(request: Request) -> list[dict[str, str]]:
    """The request's messages for the chat template; the role developer becomes system."""
    if request.tools:
        raise lm15.UnsupportedFeatureError("embedded models take no tools", feature="tools")
    messages = []
    if request.system is not None:
        system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system)
        messages.append({"role": "system", "content": system})
    for index, message in enumerate(request.messages):
        if not all(isinstance(part, TextPart) for part in message.parts):
            kinds = sorted({part.type for part in message.parts} - {"text"})
            raise lm15.UnsupportedFeatureError(
                f"embedded models read text only, not {', '.join(kinds)}", feature=f"messages[{index}]"
            )
        role = "system" if message.role == "developer" else message.role
        messages.append({"role": role, "content": "".join(part.text for part in message.parts)})
    return messages


def _response(request: Request, sampling: Sampling, generation: Generation) -> Response:
    text, finish_reason = generation.text, generation.finish_reason
    if sampling.grammar is not None:
        text, finish_reason = _finish_reply(text, finish_reason, sampling.grammar)
    return Response(
        id=None,
        model=request.model,
        message=Message.assistant([TextPart(text)]),
        finish_reason=finish_reason,
        usage=Usage(input_tokens=generation.prompt_tokens, output_tokens=generation.output_tokens),
        provider_data={
            "cpu_seconds": generation.cpu_seconds,
            "queue_seconds": generation.queue_seconds,
            "latency_seconds": generation.latency_seconds,
        },
    )


def _finish_reply(text: str, finish_reason: str, grammar: Grammar) -> tuple[str, str]:
    """Close a reply that hit the token limit, and report a string that hit our word limit as cut too."""
    if finish_reason == "length":
        return grammar.close(text) or text, finish_reason
    if grammar.word_limits:
        try:
            reply = json.loads(text)
        except ValueError:  # a stop string ended it
            return text, finish_reason
        for name, words in grammar.word_limits.items():
            if reply.get(name, "").count(" ") >= words:  # an optional one may be missing
                return text, "length"
    return text, finish_reason


def _canonical(error: ContextWindowError | PipelineError) -> Exception:
    """The corresponding lm15 error, which DSPy handles."""
    kind = lm15.ContextLengthError if isinstance(error, ContextWindowError) else lm15.ServerError
    canonical: Exception = kind(str(error), provider=_PROVIDER)
    return canonical
