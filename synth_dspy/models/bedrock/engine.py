"""Chat models on Amazon Bedrock: Converse, and for imported models InvokeModel with the chat format.

Own code on boto3 and not LiteLLM, which costs four times as much time per call, and which drops the error code that
tells expired credentials from a model without access; batch inference needs the request bodies anyway.
"""

from __future__ import annotations

import asyncio
import copy
import json
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from dspy import lm15

from synth_dspy.core import aws
from synth_dspy.core.config import MAX_REPLY_MB
from synth_dspy.models.bedrock.calls import model_id, retrying, timed
from synth_dspy.models.bedrock.converse import from_converse, structure_of, to_converse
from synth_dspy.models.completion import completion
from synth_dspy.models.dspy_compat import chat_payload
from synth_dspy.models.ledger_lm import checked
from synth_dspy.models.prices import Price, list_price, model_facts

IMPORTED = ":imported-model/"


class BedrockEngine:
    """A model of Bedrock, by the model string of each request.

    Args:
        endpoint: another address than AWS's.
        timeout: seconds that one attempt may take.
        connections: maximum number of concurrent requests.
        attempts: maximum number of attempts per call.
        max_reply_mb: longest reply that is accepted, in MB.
        price: US dollars for an input and an output token; by default the list price.
    """

    service = "bedrock-runtime"
    supports_function_calling = True
    supports_reasoning = False
    supports_response_schema = True
    supported_params = frozenset(
        {"temperature", "max_tokens", "top_p", "stop", "response_format", "tools", "tool_choice"}
    )  # fmt: skip

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        timeout: float = 600.0,
        connections: int = 64,
        attempts: int = 8,
        max_reply_mb: float = MAX_REPLY_MB,
        price: Price | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.timeout = timeout
        self.connections = connections
        self.attempts = attempts
        self.price = price
        self.max_bytes = int(max_reply_mb * 1e6)
        # The retries are this package's: boto3's are few when many calls are throttled, and know no cold start.
        self.runtime = aws.client(self.service, endpoint=endpoint, connections=connections, timeout=timeout, attempts=1)
        self._dialect = lm15.OpenAIChatLM(
            api_key="none is sent", compat=lm15.OpenAIChatCompat(max_tokens_field="max_tokens")
        )

    def with_attempts(self, attempts: int) -> BedrockEngine:
        """The same models with another number of attempts."""
        other = copy.copy(self)
        other.attempts = attempts
        return other

    def price_of(self, model: str, *, batch: bool = False) -> Price | None:
        """What a token costs: as set, or the list price."""
        return self.price or list_price(model, batch=batch)

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request; raises as `retrying`."""
        attempt = timed(lambda: self._attempt(request))
        return checked(retrying(attempt, request.model, self.runtime, attempts=self.attempts), self.max_bytes)

    def _attempt(self, request: lm15.Request) -> lm15.Response:
        name = model_id(request.model)
        if IMPORTED in name:
            payload = chat_payload(self._dialect, request)
            body = {key: value for key, value in payload.items() if key != "model"}
            reply = self.runtime.invoke_model(
                modelId=name, body=json.dumps(body), contentType="application/json", accept="application/json"
            )
            text, _ = completion(reply["body"].read().decode("utf-8", "replace"))
            return lm15.response_from_openai_chat(json.loads(text), model=request.model)
        facts = model_facts(f"bedrock/{name}")
        reply = self.runtime.converse(modelId=name, **to_converse(request, structure_of(facts)))
        tools = [tool.name for tool in request.tools]
        return from_converse(reply, request.model, tools, self.price_of(request.model))


class AsyncBedrockEngine:
    """The asynchronous `BedrockEngine`: boto3 blocks, so each call has a thread."""

    def __init__(self, engine: BedrockEngine) -> None:
        self.engine = engine

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.engine.connections, thread_name_prefix="bedrock")

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """As `BedrockEngine.complete`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.engine.complete, request)
