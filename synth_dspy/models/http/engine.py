"""Chat models behind OpenAI-compatible servers, with concurrent calls.

An `HttpEngine` turns a DSPy request into a chat completion request for the run's HTTP process
(`synth_dspy.models.http.process`), which retries, commits the answer to the ledger, and returns it. Sync and async
callers share its connections.
"""

from __future__ import annotations

import copy
import json
import re
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import httpx
from dspy import lm15

from synth_dspy.core.addresses import setting
from synth_dspy.core.config import MAX_REPLY_MB
from synth_dspy.core.errors import BusyError, ModelError, SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.masking import mask_message, url_secrets
from synth_dspy.core.usage import ModelCall
from synth_dspy.models.dspy_compat import chat_payload
from synth_dspy.models.http.connection import connection
from synth_dspy.models.http.process import RETRYABLE
from synth_dspy.models.prices import Price, list_price

OPENAI = "https://api.openai.com/v1"
BUSY = frozenset({429, 503, 529})
"""Statuses of a server that has too much to do now."""
_SHOWN = 20_000
_CONTEXT = re.compile(r"context (length|size|window)|maximum context|too many tokens", re.IGNORECASE)


class _TooLongError(Exception):
    """The list of models is too long or takes too long."""


class HttpEngine:
    """One OpenAI-compatible endpoint.

    Args:
        api_base: its address, such as `http://127.0.0.1:8000/v1`.
        api_key: sent as a bearer token; None sends none.
        key_name: the environment variable that holds the key, named in errors.
        timeout: seconds that one attempt may take.
        connections: maximum number of concurrent requests.
        attempts: maximum number of attempts per call.
        max_reply_mb: longest reply that is read, in MB.
        price: US dollars for an input and an output token; by default the list price.
    """

    supports_response_schema = True
    supports_function_calling = True
    supports_reasoning = False
    supported_params = frozenset(
        {"temperature", "max_tokens", "top_p", "stop", "seed", "response_format", "presence_penalty",
         "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "user", "tools", "tool_choice",
         "parallel_tool_calls"}
    )  # fmt: skip

    def __init__(
        self,
        api_base: str,
        *,
        api_key: str | None = None,
        key_name: str = "OPENAI_API_KEY",
        timeout: float = 600.0,
        connections: int = 64,
        attempts: int = 8,
        max_reply_mb: float = MAX_REPLY_MB,
        price: Price | None = None,
    ) -> None:
        self.api_base = api_base.rstrip("/")
        self.shown = mask_message(self.api_base)
        self.fingerprint = self.api_base
        self.key_name = key_name
        self.timeout = timeout
        self.connections = connections
        self.attempts = attempts
        self.price = price
        self.max_bytes = int(max_reply_mb * 1e6)
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        # Servers other than OpenAI's own know `max_tokens`, not all of them its later name.
        compat = None if self.api_base == OPENAI else lm15.OpenAIChatCompat(max_tokens_field="max_tokens")
        self._dialect = lm15.OpenAIChatLM(api_key="in the header", base_url=self.api_base, compat=compat)

    def complete(self, request: lm15.Request) -> lm15.Response:
        """DSPy's engine interface, without a ledger."""
        call = self.submit(request, ModelCall("", "", request.model, ""), None).result()
        return lm15.response_from_openai_chat(json.loads(call.response), model=request.model)

    def with_attempts(self, attempts: int) -> HttpEngine:
        """The same endpoint with another number of attempts."""
        other = copy.copy(self)
        other.attempts = attempts
        return other

    def lists(self, model: str) -> bool:
        """Whether the endpoint lists this model. Many servers accept other names as well.

        Raises:
            SetupError: the endpoint cannot be reached, or refuses the key.
        """
        try:
            status, text = self._get_models()
        except (httpx.TimeoutException, _TooLongError):
            return False
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._unreachable(model, mask_message(str(error), self._secrets())) from None
        if status in (401, 403):
            message = mask_message(text[:_SHOWN], self._secrets())
            raise self._error({"kind": "status", "status": status, "message": message}, model, "")
        try:
            return wire_name(model) in {entry["id"] for entry in json.loads(text)["data"]}
        except (ValueError, KeyError, TypeError, RecursionError):
            return False

    def _get_models(self) -> tuple[int, str]:
        """The status and the text of the list of models, limited to ten seconds and the length of a reply."""
        seconds = min(self.timeout, 10.0)
        deadline = time.monotonic() + seconds
        data = bytearray()
        with httpx.stream("GET", f"{self.api_base}/models", headers=self._headers, timeout=seconds) as response:
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > self.max_bytes or time.monotonic() > deadline:
                    raise _TooLongError
        return response.status_code, data.decode("utf-8", "replace")

    def _secrets(self) -> tuple[str, ...]:
        """Secrets that are sent to the endpoint."""
        key = self._headers.get("Authorization", "").removeprefix("Bearer ")
        return (*filter(None, [key]), *url_secrets(self.api_base))

    def submit(self, request: lm15.Request, call: ModelCall, ledger: Ledger | None) -> Future[ModelCall]:
        """Make a call; the future returns it answered and committed.

        The future raises lm15's typed error (a context too long, a refused request), `SetupError` (no such model, a
        refused key, an endpoint that cannot be reached) or `ModelError` (every attempt failed).
        """
        payload = chat_payload(self._dialect, replace(request, model=wire_name(request.model)))
        frame = {
            "url": f"{self.api_base}/chat/completions",
            "headers": self._headers,
            "body": json.dumps(payload, ensure_ascii=False),
            "timeout": self.timeout,
            "connections": self.connections,
            "attempts": self.attempts,
            "max_bytes": self.max_bytes,
            "prices": self.price_of(request.model),
            "call": call.to_dict(),
        }

        def error(report: dict[str, Any]) -> Exception:
            if ledger is not None and report["kind"] == "ledger":
                return ledger.fail(report["message"])
            typed = self._error(report, request.model, call.role)
            if ledger is not None:
                ledger.record_failure(replace(call, attempts=report["attempts"]), typed)
            return typed

        return connection(ledger).send(frame, error)

    def _error(self, report: dict[str, Any], model: str, role: str) -> Exception:
        """Convert a failure report to an exception of the type that callers handle."""
        kind, status, message, attempts = report["kind"], report["status"], report["message"], report.get("attempts", 1)
        if kind == "unreachable":
            return self._unreachable(model, message)
        if kind == "redirect":
            return SetupError(
                f"The endpoint {self.shown} redirects to {message or 'nowhere'} ({status}), but keys and texts go "
                f"only to the address that you name: name that one with {setting('api_base')} if it is right."
            )
        if kind != "status":
            return ModelError(
                f"The endpoint {self.shown} failed a call to {model} {attempts} times, at last with: {message}."
            )
        error = self._dialect.normalize_error(status, message)
        text = _message(message)
        if status in (401, 403):
            return SetupError(
                f"The endpoint {self.shown} refused the key in {self.key_name} ({status}: {text}): correct it."
                if "Authorization" in self._headers
                else f"The endpoint {self.shown} wants a key ({status}: {text}): set {self.key_name}."
            )
        if status == 404:
            return SetupError(
                f"The endpoint {self.shown} has no model {wire_name(model)!r} ({status}: {text}): "
                f"correct the {role or 'teacher'}'s model string or {setting('api_base')}."
            )
        if status == 400 and _CONTEXT.search(text) and not isinstance(error, lm15.ContextLengthError):
            error = lm15.ContextLengthError(text, status=status)
        if status in RETRYABLE:
            return (BusyError if status in BUSY else ModelError)(
                f"The endpoint {self.shown} refused a call to {model} {attempts} times, at last: {status} {text}."
            )
        refusal: Exception = error
        return refusal

    def price_of(self, model: str) -> Price | None:
        """What a token costs: as set, else the list price, whichever server (perhaps a gateway) serves the model."""
        return self.price or list_price(model)

    def _unreachable(self, model: str, why: str) -> SetupError:
        return SetupError(
            f"The endpoint {self.shown} of the model {model} could not be reached ({why}): "
            f"start the server, or correct {setting('api_base')}."
        )


def _message(body: str) -> str:
    """The message of a server's error, on one line."""
    try:
        error = json.loads(body)["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        text = body
    return " ".join(text.split())[:300] or "no message"


def wire_name(model: str) -> str:
    """The model's name on its server: `openai/<name>` or `hosted_vllm/<name>` without the prefix."""
    return model.removeprefix("openai/").removeprefix("hosted_vllm/")
