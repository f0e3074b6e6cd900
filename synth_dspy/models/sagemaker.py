"""Chat models behind endpoints of Amazon SageMaker: InvokeEndpoint with the chat format (vLLM, LMI and TGI serve it).

Own code on boto3 and not LiteLLM's `sagemaker_chat`, which loses the error code that tells a throttled call from a
model's refusal. An endpoint is billed by the hour, so its calls have no price.
"""

from __future__ import annotations

import json
from typing import Any

from dspy import lm15

from synth_dspy.core import aws
from synth_dspy.core.errors import SetupError
from synth_dspy.core.sagemaker import PREFIX
from synth_dspy.models.bedrock.calls import is_too_long, retrying, timed
from synth_dspy.models.bedrock.engine import BedrockEngine
from synth_dspy.models.completion import completion
from synth_dspy.models.dspy_compat import chat_payload
from synth_dspy.models.ledger_lm import checked


class SageMakerEngine(BedrockEngine):
    """An endpoint, by the model string of each request: `sagemaker/<endpoint>`, or `sagemaker/<endpoint>@<version>`.

    The version only tells apart, in ledgers and reports, the models that one endpoint serves one after the other.
    """

    service = "sagemaker-runtime"

    def complete(self, request: lm15.Request) -> lm15.Response:
        """Answer one request; raises as `retrying`."""
        attempt = timed(lambda: self._attempt(request))
        answer = retrying(attempt, request.model, self.runtime, attempts=self.attempts, refusal=_refusal)
        return checked(answer, self.max_bytes)

    def _attempt(self, request: lm15.Request) -> lm15.Response:
        body = {key: value for key, value in chat_payload(self._dialect, request).items() if key != "model"}
        reply = self.runtime.invoke_endpoint(
            EndpointName=endpoint_of(request.model),
            Body=json.dumps(body),
            ContentType="application/json",
            Accept="application/json",
        )
        text, _ = completion(reply["Body"].read().decode("utf-8", "replace"))
        return lm15.response_from_openai_chat(json.loads(text), model=request.model)


def endpoint_of(model: str) -> str:
    """The endpoint's name in a model string."""
    return model.removeprefix(PREFIX).partition("@")[0]


def _refusal(error: Exception, model: str, runtime: Any) -> Exception | None:
    """An error that no further attempt mends, as the type that callers handle; None for any other."""
    code, text = aws.code_of(error), aws.text_of(error)
    if code in ("ValidationError", "ValidationException") and "not found" in text:
        return SetupError(
            f"The endpoint of {model} does not exist in {aws.region_of(runtime)}: correct its name or AWS_REGION, or "
            "make it with `deploy sagemaker`."
        )
    response: dict[str, Any] = getattr(error, "response", None) or {}
    if code != "ModelError" or response.get("OriginalStatusCode") not in (400, 413, 422):
        return None
    refusal: Exception
    if is_too_long(text):
        refusal = lm15.ContextLengthError(text, provider="sagemaker")
    else:
        refusal = lm15.InvalidRequestError(text, provider="sagemaker")
    return refusal
