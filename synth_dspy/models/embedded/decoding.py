"""Greedy, sampled and constrained decoding for transformers' continuous batching, request by request.

transformers samples all requests of a batch with one generator, and has no grammars. So everything is done to the
logits before it takes the largest: penalties, the grammar's mask, and for a sampled request temperature, top-k, top-p
and Gumbel noise from the request's own seed. The largest of logits plus Gumbel noise is a sample of their softmax
(Maddison et al., arXiv:1411.0030).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessor

from synth_dspy.models.embedded.generation import Sampling
from synth_dspy.models.grammar.masks import Matcher


@dataclass(slots=True)
class _Request:
    """A request in flight; `read` counts the tokens of its reply that the matcher has accepted."""

    prompt: int
    sampling: Sampling
    matcher: Matcher | None
    noise: torch.Generator | None
    read: int = 0
    reply: Sequence[int] = ()
    allowed: Any = None


class Decoder(ContinuousBatchingLogitsProcessor):
    """Chooses every request's next token.

    Args:
        stop_ids: the tokens that end a reply.
        text: a reply's text, to look for stop strings.
    """

    supported_kwargs: dict[str, type] = {}  # noqa: RUF012  (declared so by the base class)
    ignored_kwargs: tuple[str, ...] = ()

    def __init__(self, stop_ids: Sequence[int], text: Callable[[Sequence[int]], str]) -> None:
        self._stop_ids = list(stop_ids)
        self._text = text
        self._requests: dict[str, _Request] = {}
        self._batch: list[_Request | None] = []

    def add(self, name: str, prompt: int, sampling: Sampling, matcher: Matcher | None) -> None:
        """Expect a request whose prompt has so many tokens."""
        noise = None
        if sampling.temperature > 0:
            noise = torch.Generator().manual_seed((sampling.seed or 0) % (1 << 63))
        self._requests[name] = _Request(prompt, sampling, matcher, noise)

    def remove(self, name: str) -> None:
        """Forget a request."""
        self._requests.pop(name, None)

    def fill_defaults(self, int32_tensor: torch.Tensor) -> None:
        """Nothing is passed through transformers' tensor of arguments."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> torch.Tensor:
        """Advance the requests that get a token in the next forward pass, in the order of its logits."""
        self._batch = [self._advanced(each.state) for each in requests_with_new_token]
        return torch.zeros(len(self._batch), dtype=torch.int32)

    def _advanced(self, state: Any) -> _Request | None:
        request = self._requests.get(state.request_id)
        if request is None:  # cancelled
            return None
        # A request that was put back for lack of memory has its reply among its initial tokens.
        written = [*state.initial_tokens, *state.generated_tokens] if state._true_initial_tokens else None
        request.reply = state.generated_tokens if written is None else written[request.prompt :]
        if request.matcher is not None:
            request.matcher.accept(request.reply[request.read :])
            request.read = len(request.reply)
            request.allowed = request.matcher.allowed()
        return request

    def __call__(self, scores: torch.Tensor, tensor_arg: torch.Tensor) -> torch.Tensor:
        """The logits, changed so that the largest is the next token. Shape [requests, vocabulary]."""
        for row, request in enumerate(self._batch):
            if request is not None:
                scores[row] = self._chosen(scores[row], request)
        return scores

    def _chosen(self, scores: torch.Tensor, request: _Request) -> torch.Tensor:
        sampling = request.sampling
        if self._ends(request):
            ended = torch.full_like(scores, -torch.inf)
            ended[self._stop_ids[0]] = 0
            return ended
        if request.reply and (sampling.presence_penalty or sampling.frequency_penalty):
            tokens, counts = torch.tensor(list(request.reply), device=scores.device).unique(return_counts=True)
            scores[tokens] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        if request.allowed is not None:
            allowed = torch.from_numpy(request.allowed).to(scores.device)
            scores = scores.masked_fill(~allowed, -torch.inf)
        return scores if request.noise is None else _sampled(scores, sampling, request.noise)

    def _ends(self, request: _Request) -> bool:
        """Whether a reply is over: its grammar's end, or a stop string."""
        if request.matcher is not None and request.allowed is None:
            return True
        if not request.sampling.stop or not request.reply:
            return False
        longest = max(map(len, request.sampling.stop))  # a token has at least one character, or part of one
        tail = self._text(request.reply[-4 * longest - 4 :])
        return any(stop in tail for stop in request.sampling.stop)


def _sampled(scores: torch.Tensor, sampling: Sampling, noise: torch.Generator) -> torch.Tensor:
    scores = scores / sampling.temperature
    if sampling.top_k is not None and 0 < sampling.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[-1], -torch.inf)
    if sampling.top_p < 1:
        ordered, order = scores.sort(descending=True)
        shares = ordered.softmax(-1)
        beyond = shares.cumsum(-1) - shares >= sampling.top_p  # never the first
        scores = scores.masked_fill(torch.zeros_like(beyond).scatter(0, order, beyond), -torch.inf)
    uniform = torch.rand(len(scores), generator=noise).clamp_(1e-20).to(scores.device)
    return scores - uniform.log().neg().log()
