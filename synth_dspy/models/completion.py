"""Validation of chat completions: which replies are committed as answers, and which are failed attempts.

A reply is validated before it is committed, because answers in the ledger are never requested again. An answer is a
text, a refusal, tool calls, or an empty message with a reason (the token limit, or a content filter).
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_COUNT = (1 << 63) - 1  # what SQLite holds
SHOWN = 200
_EMPTY_FOR = frozenset({"length", "content_filter"})
"""Finish reasons with which a reply may be empty: a retry would give the same."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def completion(text: str) -> tuple[str, dict[str, int]]:
    """Validate and normalise a chat completion for the ledger.

    The answer is good (and billed), so malformed extras are repaired: an invalid `usage` and invalid log-probabilities
    are removed, lone surrogates, which UTF-8 cannot encode, and numbers that JSON does not have (NaN, Infinity) are
    replaced.

    Returns:
        The normalised text, and the token counts of its `usage`.

    Raises:
        ValueError: the text is not a chat completion; says why.
    """
    non_finite: list[str] = []

    def number(literal: str) -> float | None:
        if math.isfinite(value := float(literal)):
            return value
        non_finite.append(literal)
        return None

    try:
        body = json.loads(text, parse_constant=non_finite.append, parse_float=number)
    except RecursionError:
        raise ValueError(f"the reply is nested too deeply: {text[:SHOWN]!r}") from None
    except ValueError as error:
        raise ValueError(f"the reply is not JSON ({error}): {text[:SHOWN]!r}") from None
    if why := _problem(body):
        raise ValueError(f"the reply is not a chat completion ({why}): {text[:SHOWN]!r}")
    if non_finite:
        text = json.dumps(body)
    if "\\ud" in text.lower() and _SURROGATE.search(whole := json.dumps(body, ensure_ascii=False)):
        text = replace_surrogates(whole)
        body = json.loads(text)
    usage = body.get("usage")
    if not _has_valid_logprobs(body["choices"][0].get("logprobs")):
        del body["choices"][0]["logprobs"]
        text = json.dumps(body)
    if usage is None:
        return text, {}
    if not _has_valid_counts(usage):
        del body["usage"]
        return json.dumps(body), {}
    return text, {name: usage[name] for name in ("prompt_tokens", "completion_tokens") if usage.get(name) is not None}


def replace_surrogates(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot encode, replaced."""
    return _SURROGATE.sub("\ufffd", text)


def _problem(body: Any) -> str | None:
    """Why a reply's body is not an answer, or None."""
    if not isinstance(body, dict):
        return "it is not an object"
    if body.get("error"):
        return "it holds an error"
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return "it does not hold one choice"
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return "its choice holds no message"
    if not isinstance(choice.get("finish_reason"), str | None):
        return "its finish_reason is not a string"
    if not isinstance(message.get("refusal"), str | None):
        return "its refusal is not a string"
    if not isinstance(body.get("model"), str | None):
        return "its model is not a string"
    calls = message.get("tool_calls")
    if calls and not (isinstance(calls, list) and all(map(_is_call, calls))):
        return "its tool_calls are not function calls"
    content = message.get("content")
    if isinstance(content, list):  # content parts, as from reasoning models
        if not all(isinstance(part, dict) and isinstance(part.get("text", ""), str | None) for part in content):
            return "its content has a part that is not text"
        content = "".join(part.get("text") or "" for part in content if part.get("type") == "text") or None
    if not isinstance(content, str | None):
        return "its content is not a string"
    if content is None and not (calls or message.get("refusal") or choice.get("finish_reason") in _EMPTY_FOR):
        return "its message has no content"
    return None


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type") not in (None, "function"):
        return False
    name, arguments = function.get("name"), function.get("arguments")
    return isinstance(name, str) and bool(name) and isinstance(arguments, str | dict | None)


def _has_valid_logprobs(logprobs: Any) -> bool:
    """Whether the log-probabilities of a reply's tokens are absent or valid."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else logprobs
    return tokens is None or (
        isinstance(tokens, list)
        and all(
            isinstance(each, dict)
            and isinstance(each.get("token"), str)
            and type(each.get("logprob")) in (int, float)
            and _has_valid_logprobs(each.get("top_logprobs"))
            and all(type(byte) is int and byte >= 0 for byte in each.get("bytes") or ())
            for each in tokens
        )
    )


def _has_valid_counts(usage: Any) -> bool:
    """Whether every `..._tokens` of a `usage`, including nested ones, is absent or a count."""
    if not isinstance(usage, dict):
        return False
    for name, value in usage.items():
        if value is None:
            continue
        if name.endswith("_tokens") and not (type(value) is int and 0 <= value <= MAX_COUNT):
            return False
        if name.endswith("_tokens_details") and not _has_valid_counts(value):
            return False
    return True
