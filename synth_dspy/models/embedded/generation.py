"""The terms of the model server: how it is set, how a reply is decoded, what comes back, and how it can fail."""

from __future__ import annotations

from dataclasses import dataclass

from synth_dspy.core.errors import ModelError
from synth_dspy.models.grammar.constraints import Grammar

DEFAULT_MAX_TOKENS = 512


class ContextWindowError(ModelError):
    """Prompt and reply together do not fit the model's context window (or the server's cache)."""


class PipelineError(ModelError):
    """The pipeline failed on this request, also when it ran alone on a new pipeline; or it could not be loaded."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a model is served. The defaults suit small models on a few cores.

    Attributes:
        kv_cache_gib: Memory for keys and values, shared by all requests and the prefix cache.
        max_sequences: Requests in one step at most; the rest wait in line.
        max_batched_tokens: Tokens in one step at most: longer prompts are read in chunks, between others' tokens.
    """

    kv_cache_gib: int = 1
    max_sequences: int = 64
    max_batched_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one reply is decoded. `temperature` 0 is greedy; `seed` chooses among samples of the same request."""

    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    grammar: Grammar | None = None
    logprobs: bool = False
    """Whether the reply comes with its tokens' log-probabilities."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished reply and what it cost.

    Attributes:
        finish_reason: "stop" (the model ended it) or "length" (the budget did).
        cpu_seconds: This request's share of the process's CPU time during its steps.
        queue_seconds: From the call to the first step that could include it.
        latency_seconds: From the call to the finished reply.
        token_ids: What the model said, the token that ended the reply included.
        token_logprobs: Log-probability of each of them, if that was asked for; else empty.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    output_tokens: int
    cpu_seconds: float
    queue_seconds: float
    latency_seconds: float
    token_ids: tuple[int, ...] = ()
    token_logprobs: tuple[float, ...] = ()
