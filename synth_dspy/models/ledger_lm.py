"""A role's LM: a `dspy.LM` whose calls all go through the ledger.

    LedgerLM (dspy.LM) -> LedgerEngine -> the engine that answers: embedded, HTTP, or DSPy's own

DSPy drops `rollout_id` and the sample index before an engine sees the request, though both determine the answer;
`LedgerLM` passes them on in a context variable. A program with such an LM is saved as if it had a plain one: no ledger,
key or path of a run gets into a file.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import dspy
from dspy import lm15
from dspy.utils.callback import with_callbacks
from dspy.utils.exceptions import (
    ContextWindowExceededError,
    LMAuthError,
    LMConfigurationError,
    LMError,
    LMRateLimitError,
    LMTransportError,
    LMUnsupportedFeatureError,
    LMUnsupportedModelError,
)

from synth_dspy.core.addresses import setting
from synth_dspy.core.budget import UNLIMITED, Budget
from synth_dspy.core.errors import BusyError, ModelError, SetupError
from synth_dspy.core.ledger import Ledger, call_key
from synth_dspy.core.masking import environment_secrets, mask_message, mask_reply
from synth_dspy.core.usage import ModelCall, count_usage, current_unit
from synth_dspy.models.completion import replace_surrogates
from synth_dspy.models.dspy_compat import (
    call_async,
    check_route,
    estimated_cost,
    request_to_dict,
    response_from_dict,
    response_to_dict,
)
from synth_dspy.models.prices import Price, list_price

_sampling: ContextVar[tuple[Any, list[int]] | None] = ContextVar("sampling", default=None)
"""The current LM call's rollout id, and a one-item list that counts the samples answered so far."""


class LedgerEngine:
    """Answers from the ledger on a cache hit; otherwise calls `inner` and commits its answer.

    Args:
        inner: a DSPy engine: `complete(Request) -> Response`. If it has `submit(request, call, ledger)`, that is used
            instead: it returns a future of the completed `call`, which it has committed itself.
        asynchronous: the engine for `acall`: `async complete(Request) -> Response`; not needed with `submit`.
        ledger: None: no caching.
        role: student, teacher or judge.
        seeded: derive every sample's seed from its key (which includes a given seed), so that a resumed run requests
            the same samples as an uninterrupted one. For engines whose samples are determined by a seed.
        names: maps a model, and the models with answers in the ledger, to the model's names in keys: the current one,
            then those of earlier versions. By default the model string.
    """

    def __init__(
        self,
        inner: Any,
        *,
        asynchronous: Any = None,
        ledger: Ledger | None,
        role: str,
        seeded: bool = False,
        names: Callable[[str, Sequence[str]], Sequence[str]] = lambda model, _: (model,),
    ) -> None:
        self.inner = inner
        self.inner_async = asynchronous
        self.ledger = ledger
        self.role = role
        self.seeded = seeded
        self.names = names
        self.supports_response_schema = bool(getattr(inner, "supports_response_schema", False))
        self.supports_function_calling = bool(getattr(inner, "supports_function_calling", False))
        self.supports_reasoning = bool(getattr(inner, "supports_reasoning", False))
        self.supported_params = set(getattr(inner, "supported_params", ()) or ())

    def complete(self, request: lm15.Request) -> lm15.Response:
        call, request = self._begin(request)

        def ask() -> ModelCall:
            with self._budget.spending((call.role, call.model)) as count:
                if hasattr(self.inner, "submit"):
                    return count(self.inner.submit(request, call, self.ledger).result())
                with self._attempt(call) as result:
                    result.append(self.inner.complete(request))
                return count(self._record(call, result))

        done, cached = self.ledger.answer(call.key, ask) if self.ledger else (ask(), False)
        return _response(done, request, from_ledger=cached)

    async def acomplete(self, request: lm15.Request) -> lm15.Response:
        call, request = self._begin(request)
        if self.ledger is None:
            return _response(await self.ask_async(request, call), request, from_ledger=False)
        done, cached = await self.ledger.aanswer(call.key, lambda: self.ask_async(request, call))
        return _response(done, request, from_ledger=cached)

    async def ask_async(self, request: lm15.Request, call: ModelCall) -> ModelCall:
        """Make a call that is not in the ledger; returns it answered and committed."""
        with self._budget.spending((call.role, call.model)) as count:
            if hasattr(self.inner, "submit"):
                return count(await asyncio.wrap_future(self.inner.submit(request, call, self.ledger)))
            with self._attempt(call) as result:
                result.append(await self.inner_async.complete(request))
            return count(self._record(call, result))

    def require_price(self, model: str) -> None:
        """Check that what a model costs is known, if the ledger's budget is limited; engines of this process are free.

        Raises:
            SetupError: it is not.
        """
        price_of = getattr(self.inner, "price_of", None)
        if self._budget.max_usd is not None and price_of is not None and price_of(model) is None:
            raise SetupError(
                f"--max-usd needs the price of the {self.role} model {model}, which litellm's list does not have: set "
                f"--models.options.{self.role}.price '[0.15, 0.6]' (US dollars per million input and output tokens; "
                "[0, 0] if nothing is charged), or limit the time with --max-minutes."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> LedgerEngine:
        return self  # copies of a program share the ledger and the model

    @property
    def _budget(self) -> Budget:
        return self.ledger.budget if self.ledger else UNLIMITED

    def _begin(self, request: lm15.Request) -> tuple[ModelCall, lm15.Request]:
        """The call without its answer, and the request to send."""
        rollout, samples = _sampling.get() or (None, [0])
        determinants = request_to_dict(request)
        determinants["engine"] = getattr(self.inner, "fingerprint", "")
        # A rollout id only matters with sampling; with greedy decoding every rollout is the same call.
        determinants["rollout"] = None if request.config.temperature == 0 else rollout
        determinants["sample"] = samples[0]
        samples[0] += 1
        names = self.names(request.model, self.ledger.models() if self.ledger else ())
        keys = (call_key(determinants | {"model": name}) for name in names)
        key = next(keys)
        if self.seeded and request.config.temperature:
            request = replace(request, config=replace(request.config, seed=int(key[:7], 16)))
        if self.ledger and not self.ledger.has_answer(key):
            key = next((older for older in keys if self.ledger.has_answer(older)), key)
        return ModelCall(key, "", request.model, self.role, current_unit()), request

    @contextmanager
    def _attempt(self, call: ModelCall) -> Iterator[list[Any]]:
        """Yield a list for the response; append the seconds it took, or record the failure."""
        result: list[Any] = []
        started = time.perf_counter()
        try:
            yield result
        except lm15.ContextLengthError as error:
            result.append(error)  # a retry would get the same refusal
        except Exception as error:
            if self.ledger:
                self.ledger.record_failure(call, error)
            raise
        result.append(time.perf_counter() - started)

    def _record(self, call: ModelCall, result: list[Any]) -> ModelCall:
        response, seconds = result
        if isinstance(response, lm15.ContextLengthError):
            text = json.dumps({"refused": mask_message(str(response))})
            call = replace(call, response=text, status="refused", latency_s=seconds)
        else:
            call = answered(call, response, seconds)
        if self.ledger:
            self.ledger.record(call)
        return call


def answered(call: ModelCall, response: lm15.Response, seconds: float | None) -> ModelCall:
    """The call with its answer; `seconds` is how long it took, unless the engine has measured it."""
    usage, data = response.usage, response.provider_data or {}
    return replace(
        call,
        response=json.dumps(response_to_dict(response, include_provider_data=True), ensure_ascii=False),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        latency_s=data.get("latency_seconds", seconds),
        cpu_s=data.get("cpu_seconds"),
        cost_usd=data.get("cost_usd"),
        attempts=data.get("attempts", call.attempts),
    )


class AsyncLedgerEngine:
    """A `LedgerEngine` with the interface that `dspy.LM.acall` expects."""

    def __init__(self, engine: LedgerEngine) -> None:
        self.engine = engine

    async def complete(self, request: lm15.Request) -> lm15.Response:
        return await self.engine.acomplete(request)

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncLedgerEngine:
        return self


class Delegate:
    """A `dspy.LM` as the engine of another, for providers whose protocol only DSPy supports.

    Args:
        lm: the LM that makes the calls.
        max_bytes: maximum length of a reply, as JSON; a longer one is a failed call.
        price: US dollars for an input and an output token; by default DSPy's estimate, which knows cached tokens too.
    """

    def __init__(self, lm: dspy.LM, *, max_bytes: int, price: Price | None = None) -> None:
        self.lm = lm
        self.max_bytes = max_bytes
        self.price = price
        self.supports_response_schema = lm.supports_response_schema
        self.supports_function_calling = lm.supports_function_calling
        self.supports_reasoning = lm.supports_reasoning
        self.supported_params = lm.supported_params

    def with_attempts(self, attempts: int) -> Delegate:
        """The same model with another number of attempts."""
        return Delegate(self.lm.copy(num_retries=attempts - 1), max_bytes=self.max_bytes, price=self.price)

    def price_of(self, model: str) -> Price | None:
        """What a token costs: as set, or the list price."""
        return self.price or list_price(model)

    def complete(self, request: lm15.Request) -> lm15.Response:
        with dspy.settings.context(disable_history=True):
            return self._priced(checked(self.lm(request), self.max_bytes), request)

    def _priced(self, response: lm15.Response, request: lm15.Request) -> lm15.Response:
        """The response with its cost: at the price that is set, by DSPy's estimate, or at the list price."""
        cost = None if self.price else estimated_cost(request, response)
        tokens = response.usage.input_tokens, response.usage.output_tokens
        price = self.price_of(request.model)
        if cost is None and price is not None and None not in tokens:
            cost = sum(count * each for count, each in zip(tokens, price, strict=True))
        if cost is None:
            return response
        return replace(response, provider_data={**(response.provider_data or {}), "cost_usd": cost})


class AsyncDelegate(Delegate):
    """The asynchronous `Delegate`."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        with dspy.settings.context(disable_history=True):
            return self._priced(checked(await self.lm.acall(request), self.max_bytes), request)


def checked(response: lm15.Response, max_bytes: int) -> lm15.Response:
    """The response with the environment's secrets masked, since its provider may echo them.

    Raises:
        ModelError: the response is longer than `max_bytes`.
    """
    text = json.dumps(response_to_dict(response, include_provider_data=True), ensure_ascii=False)
    if len(text) > max_bytes:
        raise ModelError(
            f"The model {response.model} failed a call: its reply is longer than {max_bytes / 1e6:g} MB "
            "(--models.max-reply-mb)."
        )
    kept = replace_surrogates(mask_reply(text, environment_secrets()))
    return response if kept == text else response_from_dict(json.loads(kept))


class LedgerLM(dspy.LM):
    """A `dspy.LM` on a `LedgerEngine`. Calls raise `SetupError` for what the user can fix, else `ModelError`.

    `ContextWindowExceededError` and `LMUnsupportedFeatureError` stay as they are, because DSPy's modules handle them.

    Args:
        model: the model string.
        engine: answers the calls.
        portable: further arguments of `dspy.LM`, saved in a program's state in place of the engine.
        params: arguments of `dspy.LM`.
    """

    def __init__(self, model: str, *, engine: LedgerEngine, portable: dict[str, Any] | None = None, **params: Any):
        self.portable = portable or {}
        engine.require_price(model)
        # The ledger is the only cache, and the engines do the retries.
        super().__init__(
            model, engine=engine, async_engine=AsyncLedgerEngine(engine), cache=False, num_retries=0, **params
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs):
            return super().__call__(prompt, messages=messages, **kwargs)

    @with_callbacks  # type: ignore[untyped-decorator]
    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with self._calling(kwargs):
            return await call_async(self, self.engine.acomplete, prompt, messages, kwargs)

    def check_provider(self) -> None:
        """Check that the model's provider exists and has a key, as far as that is known before a call.

        Raises:
            SetupError: it does not.
        """
        if isinstance(self.engine.inner, Delegate):
            with self._calling({}):
                check_route(self.engine.inner.lm)

    def dump_state(self) -> dict[str, Any]:
        plain = dspy.LM(self.model, model_type=self.model_type, cache=False, **self.portable)
        state: dict[str, Any] = plain.dump_state()
        return {**state, **{key: value for key, value in self.kwargs.items() if key != "api_key"}}

    @contextmanager
    def _calling(self, kwargs: dict[str, Any]) -> Iterator[None]:
        token = _sampling.set(({**self.kwargs, **kwargs}.get("rollout_id"), [0]))
        try:
            yield
        except (ContextWindowExceededError, LMUnsupportedFeatureError):
            raise
        except LMError as error:
            typed = self._typed(error)
            raise typed from (None if typed is error.__cause__ else error)
        finally:
            _sampling.reset(token)

    def _typed(self, error: LMError) -> Exception:
        if isinstance(error.__cause__, SetupError | ModelError):
            return error.__cause__
        # Cut lm15's advice, which names settings that do not exist here.
        text = " ".join(str(error.message or error).split()).partition(" To fix:")[0].partition(", or pass api_key=")[0]
        text = mask_message(text)[:400].rstrip(".")
        role = self.engine.role
        if "LLM Provider NOT provided" in text:  # LiteLLM's message for an unknown prefix
            return SetupError(
                f"The model string {self.model!r} of the role {role} names no known provider: write embedded/<name>, "
                "openai/<name>, or provider/name as LiteLLM does; for a server of your own, openai/<name> with "
                f"{setting('api_base')}."
            )
        if isinstance(error, LMAuthError | LMConfigurationError):
            advice = "" if "in the environment" in text else " Set the provider's key in the environment."
            return SetupError(f"The {role} model {self.model} refused the credentials or found none: {text}.{advice}")
        if isinstance(error, LMUnsupportedModelError):
            return SetupError(f"There is no model {self.model} for the role {role}: {text}. Correct its model string.")
        if isinstance(error, LMTransportError):
            return SetupError(
                f"The endpoint of the {role} model {self.model} could not be reached: {text}. "
                f"Correct {setting('api_base')}, or start the server."
            )
        kind = BusyError if isinstance(error, LMRateLimitError) else ModelError
        return kind(f"The {role} model {self.model} failed a call for good: {text}")


def _response(call: ModelCall, request: lm15.Request, *, from_ledger: bool) -> lm15.Response:
    """Rebuild the response from a call, in the same way for new answers and cache hits."""
    body = json.loads(call.response)
    if call.status == "refused":
        count_usage(call, from_ledger=from_ledger)
        raise lm15.ContextLengthError(body["refused"])
    if "choices" in body:
        response = lm15.response_from_openai_chat(body, model=request.model)
    else:
        response = response_from_dict(body | {"model": request.model})  # the model's path may have changed
    count_usage(call, from_ledger=from_ledger, truncated=response.finish_reason == "length")
    return response


def keep_no_calls(program: dspy.Module) -> None:
    """Detach a program from its run's ledger, which is closed: calls are no longer cached."""
    for predictor in program.predictors():
        engine = getattr(predictor.lm, "engine", None)
        if isinstance(engine, LedgerEngine):
            engine.ledger = None
