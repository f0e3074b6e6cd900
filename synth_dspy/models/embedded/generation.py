"""Data types of the model server: settings, sampling parameters, results and errors."""

from __future__ import annotations

from dataclasses import dataclass

from synth_dspy.core.errors import ModelError
from synth_dspy.models.grammar.constraints import Grammar

DEFAULT_MAX_TOKENS = 512


class ContextWindowError(ModelError):
    """Prompt and reply together exceed the model's context window (or the server's cache)."""


class PipelineError(ModelError):
    """The pipeline failed on this request, even alone on a new pipeline, or could not be loaded."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How a model is served. The defaults suit small models on a few cores.

    Attributes:
        kv_cache_gib: Memory of the key-value cache, shared by all requests and the prefix cache.
        max_sequences: Maximum number of requests in a batch; others are queued.
        max_batched_tokens: Maximum number of tokens per step: longer prompts are processed in chunks.
    """

    kv_cache_gib: int = 1
    max_sequences: int = 64
    max_batched_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Sampling:
    """Decoding parameters. `temperature` 0 is greedy; `seed` selects among samples of the same request."""

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
    """Whether to return the tokens' log-probabilities."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished reply and what it cost.

    Attributes:
        finish_reason: "stop" (ended by the model) or "length" (cut at max_tokens).
        cpu_seconds: This request's share of the process's CPU time during its steps.
        queue_seconds: From the call to the first step that could include it.
        latency_seconds: From the call to the finished reply.
        token_ids: The reply's tokens, with the end token.
        token_logprobs: Their log-probabilities, if requested; else empty.
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
