"""The one place that touches what DSPy keeps to itself: names with an underscore, and modules without documentation.

Written against DSPy 3.4 (`pyproject.toml` admits no other); with another version, look through this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import dspy

# lm15 documents this module, but DSPy vendors lm15 and passes on all of it but this; a ledger is these dictionaries.
from dspy._vendor.lm15.serde import request_to_dict, response_from_dict, response_to_dict
from dspy.clients import execution
from dspy.clients.call_result import combine
from dspy.clients.costs import estimate_cost
from dspy.clients.errors import error_boundary
from dspy.clients.model_metadata import model_info, rate

__all__ = [
    "PLAIN_LM",
    "call_async",
    "chat_payload",
    "estimated_cost",
    "list_prices",
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
    """What `dspy.LM.acall` does, on an engine's own method.

    `acall` goes to a thread twice in each call (to read media files, to look up prices), which costs more than the rest
    of a call that the ledger answers; DSPy has no switch for it.
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

    lm15 only makes it on the way to sending it, and calls are sent by a process of this package's own.
    """
    payload: dict[str, Any] = dialect._payload(request, stream=False)
    return payload


def estimated_cost(request: dspy.lm15.Request, response: dspy.lm15.Response) -> float | None:
    """US dollars of a call, or None where DSPy knows no price.

    DSPy writes it into an LM's history only, which is off here, because it would grow with the run.
    """
    provider, _, name = request.model.partition("/")
    cost, _ = estimate_cost(response, provider=provider, requested_model=name, request=request)
    return None if cost is None else float(cost)


def list_prices(provider: str, model: str) -> list[float] | None:
    """US dollars for a token in and out, or None where DSPy knows none.

    What is answered in a process that does not load DSPy is priced there.
    """
    info = model_info(provider, model)
    prices = [rate(info, f"{side}_cost_per_token") for side in ("input", "output")]
    return None if None in prices else prices


def saved_lm_class(state: Mapping[str, Any]) -> str:
    """The class that a saved LM asks to be loaded as, `PLAIN_LM` where it names none.

    It is checked before DSPy's `load_state` imports it.
    """
    return str(state.get("_dspy_lm_class", PLAIN_LM))
