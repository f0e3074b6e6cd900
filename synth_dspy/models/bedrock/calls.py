"""Calls to Bedrock's models: retries, and errors as the types that callers handle."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from dspy import lm15

from synth_dspy.core import aws
from synth_dspy.core.errors import ModelError, SetupError, SynthDspyError

PREFIX = "bedrock/"
COLD_START_S = 600.0
"""How long an imported model that nobody has used for a while may take to start."""
_COLD_WAIT_S = 10.0
_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 60.0
_CONTEXT = (
    "too long",
    "too many tokens",
    "too many input tokens",
    "maximum context",
    "context length",
    "context window",
)

Value = TypeVar("Value")


def model_id(model: str) -> str:
    """Bedrock's identifier of a model string: a model's, an inference profile's, or an ARN."""
    return model.removeprefix(PREFIX).removeprefix("converse/")


def is_too_long(text: str) -> bool:
    """Whether a service's message says that a prompt is too long."""
    return any(words in text.lower() for words in _CONTEXT)


def timed(attempt: Callable[[], lm15.Response]) -> Callable[[], lm15.Response]:
    """An attempt whose answer says how long it took alone, and which attempt it is."""
    numbers = itertools.count(1)

    def made() -> lm15.Response:
        number, began = next(numbers), time.perf_counter()
        answer = attempt()
        facts = {"latency_seconds": time.perf_counter() - began, "attempts": number}
        return replace(answer, provider_data={**(answer.provider_data or {}), **facts})

    return made


def retrying(
    attempt: Callable[[], Value],
    model: str,
    runtime: Any,
    *,
    attempts: int,
    refusal: Callable[[Exception, str, Any], Exception | None] = lambda *_: None,
) -> Value:
    """The value of the first attempt that succeeds.

    Args:
        attempt: makes one.
        model: the model string, for messages.
        runtime: the client.
        attempts: at most so many; an imported model that is starting is waited for beyond them.
        refusal: of (error, model, runtime): the error to raise at once, if the service has its own.

    Raises:
        lm15.ContextLengthError: the prompt is too long for the model.
        lm15.InvalidRequestError: the model refuses the request.
        SetupError: no credentials, no access, no such model, or no connection.
        ModelError: every attempt failed.
    """
    began, number = time.monotonic(), 0
    while True:
        number += 1
        try:
            return attempt()
        except (lm15.LM15Error, SynthDspyError):
            raise
        except Exception as error:
            if (refused := refusal(error, model, runtime)) is not None:
                raise refused from error
            starting = aws.code_of(error) == "ModelNotReadyException"
            more = number < attempts and (isinstance(error, ValueError) or aws.is_transient(error))
            if starting and attempts > 1:
                more = time.monotonic() - began < COLD_START_S
            if not more:
                raise _typed(error, model, runtime, number) from error
        backoff = random.uniform(0.5, 1.0) * min(_FIRST_WAIT_S * 2.0 ** (number - 1), _MAX_WAIT_S)
        time.sleep(_COLD_WAIT_S if starting else backoff)


def _typed(error: Exception, model: str, runtime: Any, attempts: int) -> Exception:
    """An error of boto3, or of a malformed reply, as the type that callers handle."""
    what, region = f"The model {model}", aws.region_of(runtime)
    code, text = aws.code_of(error), aws.text_of(error)
    invalid = code == "ValidationException"
    if isinstance(error, ValueError):
        return ModelError(f"{what} failed a call {attempts} times, at last with: {error}.")
    refusal: Exception
    if invalid and is_too_long(text):
        refusal = lm15.ContextLengthError(text, provider="bedrock")
        return refusal
    if invalid and "on-demand throughput" in text:
        return SetupError(
            f"{what} is offered through an inference profile only: put your part of the world before its name, such as "
            f"bedrock/us.{model_id(model)} (`aws bedrock list-inference-profiles` lists them)."
        )
    if code in aws.DENIED and "is not authorized to perform" not in text:
        return SetupError(
            f"{what} cannot be used, because this AWS account has no access to it in {region}: request it under Model "
            "access in Bedrock's console, or name another model or AWS_REGION."
        )
    if code in aws.MISSING or (invalid and "model identifier" in text):
        return SetupError(
            f"{what} does not exist in {region}: correct its name or AWS_REGION (`aws bedrock list-foundation-models` "
            "lists them)."
        )
    if invalid:
        refusal = lm15.InvalidRequestError(text, provider="bedrock")
        return refusal
    return aws.explain(error, what, attempts=attempts)
