"""Estimates the time and memory of a training before it starts.

The FLOPs are counted from the rows' tokens and the model's shape. The speed is measured here, on the loaded model: one
micro-batch of middle size forward and backward with a new adapter, and one step of the optimizer, both in a second or
two. Memory is a formula, see `memory.py`. docs/performance.md has both beside what was measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from synth_dspy.training.data import TokenRows, fill_steps
from synth_dspy.training.frozen import frozen_in_bf16
from synth_dspy.training.memory import Shape, memory
from synth_dspy.training.sequences import Group
from synth_dspy.training.spec import ONLINE, TrainSpec

_TRIAL_S = 0.6
"""Seconds to repeat the measurement for, after a first pass that also warms up."""
_TRIAL_TOKENS = 384
"""Longest prompt to measure with on a CPU."""
_STEP_S = 0.012
"""The Trainer's own work per step: callbacks, logs and batches."""
_DECODE = 20  # cost of a sampled token in prompt tokens: decoding is bound by memory bandwidth


@dataclass(frozen=True, slots=True)
class Estimate:
    """The size of a training and its estimated cost.

    Attributes:
        rows: Rows to train on.
        left_out: Rows that are too long.
        tokens: Tokens read in all epochs.
        steps: Optimizer steps.
        estimate_s: Seconds of training, without loading, merging and the parity check.
        estimate_gib: Peak memory of the process, or of the GPU.
        memory_gib: The same by part.
    """

    rows: int
    left_out: int
    tokens: int
    steps: int
    estimate_s: float
    estimate_gib: float
    memory_gib: dict[str, float]

    def asdict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def estimate(spec: TrainSpec, train: TokenRows, model: Any, *, bf16: bool) -> Estimate:
    """Estimate a training.

    Args:
        spec: what to train.
        train: its rows.
        model: the loaded base, on its device.
        bf16: whether training computes in bfloat16.
    """
    shape = Shape.of(spec, model.config)
    groups = [_read(spec, group) for group in train.groups]
    if spec.method in ONLINE:
        groups = fill_steps(groups, spec.batch)
    rate, step_s = _trial(spec, shape, train.groups, model, bf16)
    seconds = sum(flops(spec, shape, read, predicted) for read, predicted in groups) * spec.epochs / rate
    if spec.method in ONLINE:
        sampled = len(groups) * spec.sampled * spec.completion_tokens * spec.epochs
        seconds += sampled * _DECODE * 2 * shape.layers / rate
    steps = math.ceil(math.ceil(len(groups) / spec.batch) * spec.epochs)
    peak = memory(
        spec,
        shape,
        tokens=largest(spec, train.groups)[0],
        predicted=largest(spec, train.groups)[1],
        bf16=bf16,
        device=model.device.type,
        weights=sum(int(weight.numel()) * int(weight.element_size()) for weight in model.parameters()),
    )
    return Estimate(
        rows=len(train.groups),
        left_out=train.left_out,
        tokens=round(sum(read for read, _ in groups) * spec.epochs),
        steps=steps,
        estimate_s=round(seconds + steps * step_s, 3),
        estimate_gib=round(peak.total / 2**30, 2),
        memory_gib=peak.gib(),
    )


def largest(spec: TrainSpec, groups: Sequence[Group]) -> tuple[int, int]:
    """(tokens, predicted tokens) of the largest micro-batch."""
    from synth_dspy.training.trainers import micro_batches

    reads = [_read(spec, group) for group in groups]
    each = [
        tuple(map(sum, zip(*(reads[index] for index in batch), strict=True))) for batch in micro_batches(spec, groups)
    ]
    tokens, predicted = max(each)
    return (2 * tokens, 2 * predicted) if spec.method == "kto" else (tokens, predicted)


def _read(spec: TrainSpec, group: Group) -> tuple[int, int]:
    """(tokens read, tokens predicted) of a row."""
    if spec.method in ONLINE:
        sampled = spec.sampled * spec.completion_tokens
        return spec.sampled * len(group.prompt) + sampled, sampled
    predicted = sum(map(len, group.completions))
    # KTO's rows carry a mismatched answer of similar length.
    return (group.tokens + predicted, 2 * predicted) if spec.method == "kto" else (group.tokens, predicted)


def flops(spec: TrainSpec, shape: Shape, read: int, predicted: int, *, learning: bool = False) -> float:
    """FLOPs of one row in one epoch: forward, backward through the adapted layers, and the reference pass if any.

    Args:
        spec: what to train.
        shape: the model and its adapter.
        read: tokens read.
        predicted: tokens predicted.
        learning: without the reference pass.
    """
    share = shape.adapted_layers / shape.depth
    attention = 2 * shape.hidden * read * shape.depth  # per token, causal
    output = predicted * 2 * shape.hidden * shape.vocabulary
    forward = read * (2 * shape.layers + attention) + output
    backward = read * (2 * shape.layers + 2 * attention) * share + output
    again = share if spec.gradient_checkpointing is True else 0.0
    reference = 1 / max(spec.epochs, 1) if spec.method in ("dpo", "kto", *ONLINE) and not learning else 0.0
    own = 2 * read * shape.layers + output if spec.full else 6 * read * shape.adapter  # gradients of what is trained
    return (1 + again + reference) * forward + backward + own


def _trial(spec: TrainSpec, shape: Shape, groups: Sequence[Group], model: Any, bf16: bool) -> tuple[float, float]:
    """(FLOP/s of training, seconds of an optimizer step), measured with a new adapter that is then removed."""
    import torch
    from peft import get_peft_model

    from synth_dspy.training.sequences import completion_logps, pack
    from synth_dspy.training.trainers import lora_config, micro_batches

    batches = sorted(micro_batches(spec, groups), key=lambda batch: sum(groups[index].tokens for index in batch))
    chosen = [groups[index] for index in batches[len(batches) // 2]]
    if model.device.type == "cpu":
        chosen = [Group(group.prompt[-_TRIAL_TOKENS:], group.completions) for group in chosen[:2]]
    if spec.method in ONLINE:  # it has no completions before it samples
        chosen = [Group(group.prompt[:-1], [group.prompt[-1:]]) for group in chosen]
    packed = pack(chosen).to(model.device)
    again = spec.gradient_checkpointing is True
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    with torch.random.fork_rng():
        tuned = model.requires_grad_() if spec.full else get_peft_model(model, lora_config(spec, model))
    try:
        tuned.train()
        if again:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        weights = [parameter for parameter in tuned.parameters() if parameter.requires_grad]

        def learn() -> None:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                loss = -completion_logps(tuned, packed).sum()
            loss.backward()
            if model.device.type == "cuda":
                torch.cuda.synchronize()

        work = sum(
            flops(spec, shape, group.tokens, sum(map(len, group.completions)), learning=True) for group in chosen
        )
        with frozen_in_bf16(tuned, spec, bf16=bf16):
            rate = work / _fastest(learn)
        optimizer = torch.optim.AdamW(weights, lr=0.0, weight_decay=0.0)  # the weights stay as they are
        step_s = _fastest(optimizer.step) + _STEP_S
        optimizer.zero_grad()
    finally:
        if again:
            model.gradient_checkpointing_disable()
            model.disable_input_require_grads()
        if not spec.full:
            tuned.unload()
            with suppress(AttributeError):
                del model.peft_config  # PEFT's mark of a model with an adapter
        model.eval()
        for parameter, trains in zip(model.parameters(), frozen, strict=True):
            parameter.requires_grad_(trains)
    return rate, step_s


def _fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of three calls, or of two if they take long; the first one also warms up."""
    best, end = math.inf, time.perf_counter() + _TRIAL_S
    for repetition in range(3):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
        if repetition and time.perf_counter() > end:
            break
    return best
