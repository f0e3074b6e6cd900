"""Requests and replies in the form of Bedrock's Converse interface, which batch inference reads and writes too.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from dspy import lm15

Structure = Literal["native", "tool", "none"]
"""How a model is held to a JSON schema: by its output configuration, by a tool that it must call, or not at all."""

_ANSWER = "answer"
"""The tool that carries a reply in JSON."""
_FINISH: Mapping[str, lm15.FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_call",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def structure_of(facts: Mapping[str, Any]) -> Structure:
    """How a model with these facts (`prices.model_facts`) is held to a schema."""
    if facts.get("supports_native_structured_output"):
        return "native"
    return "tool" if facts.get("supports_tool_choice") else "none"


def to_converse(request: lm15.Request, structure: Structure = "none") -> dict[str, Any]:
    """The request's body, without the model.

    What the interface does not have (seed, penalties) is left out. Further options go to the model as they are:
    `additionalModelRequestFields`.

    Args:
        request: DSPy's.
        structure: how the model is held to a schema.

    Raises:
        lm15.UnsupportedFeatureError: log-probabilities, or parts that are not text.
    """
    config = request.config
    if config.logprobs is not None:
        raise lm15.UnsupportedFeatureError("Bedrock gives no log-probabilities", feature="config.logprobs")
    body: dict[str, Any] = {"messages": _messages(request)}
    system = [{"text": text} for text in _system(request) if text.strip()]
    if system:
        body["system"] = system
    inference = {
        "maxTokens": config.max_tokens,
        "temperature": None if config.temperature is None else min(config.temperature, 1.0),  # the largest there is
        "topP": config.top_p,
        "stopSequences": [*config.stop] or None,
    }
    if inference := {name: value for name, value in inference.items() if value is not None}:
        body["inferenceConfig"] = inference
    if tools := _tools(request):
        body["toolConfig"] = tools
    further = {"top_k": config.top_k} if config.top_k is not None else {}
    if further := further | dict(config.extensions or {}):
        body["additionalModelRequestFields"] = further
    schema = (config.response_format or {}).get("schema")
    if schema is not None and structure == "native":
        definition = {"schema": json.dumps(_closed(schema)), "name": config.response_format.get("name", _ANSWER)}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": definition}}}
    elif schema is not None and structure == "tool" and not tools and schema.get("type") == "object":
        specification = {"name": _ANSWER, "description": "The reply.", "inputSchema": {"json": schema}}
        body["toolConfig"] = {"tools": [{"toolSpec": specification}], "toolChoice": {"tool": {"name": _ANSWER}}}
    return body


def from_converse(
    body: Mapping[str, Any], model: str, tools: Sequence[str], prices: tuple[float, float] | None
) -> lm15.Response:
    """The response that a reply of Converse holds.

    Args:
        body: the reply.
        model: the model string of the request.
        tools: names of the request's tools.
        prices: of an input and an output token in US dollars, if known.

    Raises:
        ValueError: the body is not a reply of Converse; says why.
    """
    try:
        blocks, stop, counts = body["output"]["message"]["content"], body["stopReason"], body.get("usage") or {}
        parts = [part for block in blocks for part in _parts(block, tools)]
        finish = _FINISH.get(stop, "error")
        if finish == "tool_call" and not any(part.type == "tool_call" for part in parts):
            finish = "stop"  # the reply in JSON
        usage = lm15.Usage(
            input_tokens=counts.get("inputTokens"),
            output_tokens=counts.get("outputTokens"),
            cache_read_tokens=counts.get("cacheReadInputTokens"),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"the reply is not one of Converse ({why}): {str(body)[:300]!r}") from None
    cost = None
    if prices is not None and usage.input_tokens is not None and usage.output_tokens is not None:
        cost = usage.input_tokens * prices[0] + usage.output_tokens * prices[1]
    return lm15.Response(
        id=None,
        model=model,
        message=lm15.Message.assistant(parts or [lm15.TextPart("")]),
        finish_reason=finish,
        usage=usage,
        provider_data=None if cost is None else {"cost_usd": cost},
    )


def _parts(block: Mapping[str, Any], offered: Sequence[str]) -> Iterator[Any]:
    if "text" in block:
        yield lm15.TextPart(block["text"])
    elif "toolUse" in block:
        use = block["toolUse"]
        if use["name"] == _ANSWER and _ANSWER not in offered:
            yield lm15.TextPart(json.dumps(use["input"], ensure_ascii=False))
        else:
            yield lm15.ToolCallPart(id=use["toolUseId"], name=use["name"], input=use["input"])
    elif "reasoningContent" in block:
        yield lm15.ThinkingPart(block["reasoningContent"].get("reasoningText", {}).get("text", ""))


def _system(request: lm15.Request) -> Iterator[str]:
    if isinstance(request.system, str):
        yield request.system
    elif request.system is not None:
        yield from (part.text for part in request.system)
    for message in request.messages:
        if message.role == "developer":
            yield from (part.text for part in message.parts)


def _messages(request: lm15.Request) -> list[dict[str, Any]]:
    """The turns, which have to alternate: neighbours of one role become one."""
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(request.messages):
        if message.role == "developer":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in message.parts for block in _blocks(part, number)]
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(part: Any, number: int) -> Iterator[dict[str, Any]]:
    if part.type in ("text", "refusal"):
        if part.text.strip():  # an empty block is an error
            yield {"text": part.text}
    elif part.type == "tool_call":
        yield {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.input}}
    elif part.type == "tool_result":
        content = [{"text": each.text} for each in part.content if each.type == "text"] or [{"text": "(nothing)"}]
        yield {
            "toolResult": {
                "toolUseId": part.id, "content": content, "status": "error" if part.is_error else "success"
            }
        }  # fmt: skip
    elif part.type != "thinking":  # of an earlier turn: not needed without its signature
        raise lm15.UnsupportedFeatureError(
            f"only text is sent to Bedrock, not {part.type}", feature=f"messages[{number}]"
        )


def _tools(request: lm15.Request) -> dict[str, Any] | None:
    choice = request.config.tool_choice
    if not request.tools or (choice is not None and choice.mode == "none"):
        return None
    tools = [
        {
            "toolSpec": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "inputSchema": {"json": tool.parameters},
            }
        }
        for tool in request.tools
        if tool.type == "function" and (choice is None or not choice.allowed or tool.name in choice.allowed)
    ]
    return {"tools": tools, **({"toolChoice": {"any": {}}} if choice is not None and choice.mode == "required" else {})}


def _closed(schema: Any) -> Any:
    """A schema whose objects allow no further properties, which native structured output demands to be said."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _closed(value) for name, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        inner.setdefault("additionalProperties", False)
    return inner
