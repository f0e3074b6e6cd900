"""Efficient log-probabilities of completions.

Two savings, on any hardware, that do not change loss or gradients:

- Completions of one prompt (chosen and rejected, or an answer and KTO's mismatched one) are packed after it into one
  sequence; an attention mask keeps them from attending to each other. The prompt, most of the tokens, is computed once.
- The output layer, a quarter of a small model, runs only at positions that predict a completion's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CHUNK = 512
"""Maximum number of tokens whose logits are in memory at once."""


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt and its completions, as token ids; every completion has at least one token."""

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Number of tokens that the model reads: the last token of a completion need not be read."""
        return len(self.prompt) + sum(len(completion) - 1 for completion in self.completions)


@dataclass(frozen=True, slots=True)
class Packed:
    """Groups packed into one sequence of L tokens, with T tokens to predict.

    `input_ids` and `position_ids` are (1, L). `mask` is (1, 1, L, L), true where a token (row) attends to another;
    None: causal. `sources` and `targets` are (T,): the position that predicts a token, and the token. `lengths` are the
    lengths of the completions, in order.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor | None
    sources: torch.Tensor
    targets: torch.Tensor
    lengths: tuple[int, ...]

    def to(self, device: torch.device) -> Packed:
        """The same on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        ids, positions = self.input_ids.to(device), self.position_ids.to(device)
        return Packed(ids, positions, mask, self.sources.to(device), self.targets.to(device), self.lengths)


def pack(groups: Sequence[Group]) -> Packed:
    """Pack groups into one sequence in which no group or completion attends to another."""
    import torch

    ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    size = sum(group.tokens for group in groups)
    sees = torch.zeros(size, size, dtype=torch.bool)
    for group in groups:
        start, prompt = len(ids), len(group.prompt)
        ids += group.prompt
        positions += range(prompt)
        sees[start : start + prompt, start : start + prompt] = True
        for completion in group.completions:
            at, read = len(ids), len(completion) - 1
            ids += completion[:-1]
            positions += range(prompt, prompt + read)
            sources += [start + prompt - 1, *range(at, at + read)]
            targets += completion
            lengths.append(len(completion))
            sees[at : at + read, start : start + prompt] = True
            sees[at : at + read, at : at + read] = True
    plain = len(groups) == 1 and len(groups[0].completions) == 1
    return Packed(
        input_ids=torch.tensor([ids]),
        position_ids=torch.tensor([positions]),
        mask=None if plain else sees.tril()[None, None],
        sources=torch.tensor(sources),
        targets=torch.tensor(targets),
        lengths=tuple(lengths),
    )


def token_logps(model: Any, packed: Packed) -> torch.Tensor:
    """Log-probability of every target, shape (T,), in float32.

    Args:
        model: a causal language model, perhaps wrapped by PEFT, whose attention takes boolean masks (`sdpa`).
        packed: the sequence, on the model's device.
    """
    import torch
    from torch.nn import functional
    from torch.utils.checkpoint import checkpoint

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # Flash attention takes no mask: it starts anew where positions do (see `savers.attention`).
    mask = None if base.config._attn_implementation == "flash_attention_2" else _masks(base, packed)
    states = base.base_model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=mask,
        use_cache=False,
    ).last_hidden_state[0]
    head = base.get_output_embeddings()
    cap = getattr(base.config, "final_logit_softcapping", None)  # Gemma 2's

    def logps(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = head(states).float()
        if cap:
            logits = torch.tanh(logits / cap) * cap
        return -functional.cross_entropy(logits, targets, reduction="none")

    sources = states.index_select(0, packed.sources)
    if len(packed.targets) <= CHUNK:
        return logps(sources, packed.targets)
    # Logits of long completions take the most memory: recompute them in the backward pass, chunk by chunk.
    chunks = zip(sources.split(CHUNK), packed.targets.split(CHUNK), strict=True)
    return torch.cat([checkpoint(logps, *chunk, use_reentrant=False) for chunk in chunks])


def _masks(model: Any, packed: Packed) -> Any:
    """The mask as the model takes it: by kind of layer where some attend to a window only, additive for `eager`."""
    import torch

    mask, config = packed.mask, model.config
    if mask is None:
        return None
    reach = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    positions = packed.position_ids[0]
    near = mask if reach is None else mask & (positions[:, None] - positions[None, :] < reach)

    def for_model(allowed: torch.Tensor) -> torch.Tensor:
        if config._attn_implementation != "eager":
            return allowed
        kind = model.dtype
        return torch.zeros(allowed.shape, dtype=kind, device=allowed.device).masked_fill(
            ~allowed, torch.finfo(kind).min
        )

    if kinds:
        masks = {"full_attention": for_model(mask), "sliding_attention": for_model(near)}
        return {kind: masks[kind] for kind in kinds} if len(kinds) > 1 else masks[kinds.pop()]
    return for_model(near)


def completion_logps(model: Any, packed: Packed) -> torch.Tensor:
    """Log-probability of every completion, summed over its tokens: one for each of `packed.lengths`."""
    import torch

    parts = token_logps(model, packed).split(list(packed.lengths))
    return torch.stack([part.sum() for part in parts])
