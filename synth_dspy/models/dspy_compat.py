"""The only module that uses DSPy's private names and undocumented modules.

Written for DSPy 3.4 (`pyproject.toml` allows no other version); review this file before an upgrade.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import dspy

# lm15 documents this module, but DSPy's vendored lm15 does not export it. The ledger stores these dictionaries.
from dspy._vendor.lm15.serde import request_to_dict, response_from_dict, response_to_dict
from dspy.clients import execution
from dspy.clients._litellm import get_litellm
from dspy.clients.call_result import combine
from dspy.clients.costs import estimate_cost
from dspy.clients.engines.lm15_engine import LM15Engine
from dspy.clients.errors import error_boundary
from dspy.utils.exceptions import LMConfigurationError

__all__ = [
    "PLAIN_LM",
    "call_async",
    "chat_payload",
    "check_provider",
    "check_route",
    "estimated_cost",
    "request_to_dict",
    "response_from_dict",
    "response_to_dict",
    "saved_lm_class",
]

PLAIN_LM: Final = "dspy.clients.lm.LM"


async def call_async(
    lm: dspy.LM,
    complete: Callable[[dspy.lm15.Request], Awaitable[dspy.lm15.Response]],
    prompt: Any,
    messages: Any,
    kwargs: Mapping[str, Any],
) -> Any:
    """`dspy.LM.acall` without its threads, on an engine's `complete`.

    `acall` uses a thread twice per call (to read media files, to look up prices), which costs more than the rest of a
    cache hit; DSPy has no switch for it.
    """
    call = execution.prepare(lm, prompt, messages, kwargs, asynchronous=True)
    request = execution._canonical(call)
    results = []
    for _ in range(call.n):
        with error_boundary(lm.model, unexpected=True):
            response = await complete(request)
        results.append(execution._result(lm, response, call, None, request, estimate=False))
    result = results[0] if call.n == 1 else combine(results, model_type=lm.model_type)
    return execution.finalize(lm, call, result)


def chat_payload(dialect: dspy.lm15.OpenAIChatLM, request: dspy.lm15.Request) -> dict[str, Any]:
    """The body of a chat completion.

    lm15 only builds it while sending, but here another process sends the calls.
    """
    payload: dict[str, Any] = dialect._payload(request, stream=False)
    return payload


def check_route(lm: dspy.LM) -> None:
    """Check what a call needs before it is sent: that there is such a provider and, if DSPy asks it itself, a key.

    Nothing is sent.

    Raises:
        LMError: as the call would.
    """
    engine, request, _ = execution._engine(lm, execution.prepare(lm, "Hello", None, {}), False)
    if isinstance(engine, LM15Engine):
        with error_boundary(lm.model, unexpected=True):
            engine._target(request)
    else:
        check_provider(lm.model, lm.kwargs.get("api_base"))


def check_provider(model: str, api_base: str | None) -> None:
    """Check that LiteLLM knows the provider of a model string.

    Raises:
        LMConfigurationError: it does not.
    """
    litellm = get_litellm(feature="the check of a model string")
    try:
        litellm.get_llm_provider(model, api_base=api_base)
    except litellm.exceptions.BadRequestError as error:
        raise LMConfigurationError(str(error), model=model) from error


def estimated_cost(request: dspy.lm15.Request, response: dspy.lm15.Response) -> float | None:
    """The cost of a call in US dollars, or None if DSPy has no price.

    DSPy only adds it to an LM's history, which is disabled here because it grows with the run.
    """
    provider, _, name = request.model.partition("/")
    cost, _ = estimate_cost(response, provider=provider, requested_model=name, request=request)
    return None if cost is None else float(cost)


def saved_lm_class(state: Mapping[str, Any]) -> str:
    """The class that a saved LM's state names, by default `PLAIN_LM`; to be checked before `load_state` imports it."""
    return str(state.get("_dspy_lm_class", PLAIN_LM))
