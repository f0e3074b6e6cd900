"""Training the reference judge's cross-encoder: LoRA on the embedder's own weights, on pairs with a verdict.

LoRA: Hu et al., arXiv:2106.09685, on the linear layers of the transformer's upper half: what lies below is not trained,
and need not be walked back through. Cross-encoders for pairs of sentences:
Reimers and Gurevych, arXiv:1908.10084.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.evaluation.reference_judge.pairs import Pair
from synth_dspy.models.cross_encoder import LONGEST, pair_module
from synth_dspy.models.embedder import load_tokenizer, load_transformer
from synth_dspy.models.weights.registry import resolve

_RANK, _SCALE = 16, 2.0
_FIRST_LAYER = 3
_LEARNING_RATE = 1e-3
_BATCH, _POOL = 24, 32
"""Pairs of a step, and the steps whose pairs are sorted by length together, so that little is padded."""


def train(
    model: str,
    pairs: Sequence[Pair],
    targets: Sequence[float],
    weights: Sequence[float],
    adapter: Path,
    *,
    start: Path | None = None,
    epochs: int = 1,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Train an adapter and a head, and write them.

    Args:
        model: the embedding model, a registered name or a folder.
        pairs: what is read.
        targets: the verdicts, in [0, 1].
        weights: of each pair in the loss.
        adapter: the file to write, in float16.
        start: the adapter to go on from; None for a new one.
        epochs: passes over the pairs.
        seed: of the order and of what is drawn at the start.
        progress: told the share that is done.
    """
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    rng = random.Random(seed)
    folder = resolve(model)
    tokenizer = load_tokenizer(folder, LONGEST)
    encodings = tokenizer.encode_batch([(pair.first, pair.second) for pair in pairs])
    transformer = load_transformer(folder).requires_grad_(False)
    layers = {name: layer for name, layer in transformer.named_modules() if _is_adapted(name, layer)}
    added = {name: _add_lora(layer) for name, layer in layers.items()}
    head = torch.nn.Linear(transformer.config.hidden_size, 1)
    if start is not None:
        _resume(start, added, head)
    module = pair_module(transformer, head).train()
    trained = [*head.parameters(), *(matrix for pair in added.values() for matrix in pair)]
    steps = max(1, epochs * (len(pairs) // _BATCH))
    optimizer = torch.optim.AdamW(trained, lr=_LEARNING_RATE, weight_decay=0.01)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, max(0.02, (steps - step) / steps))
    )
    done = 0
    for _ in range(epochs):
        for batch in _batches([len(encoding) for encoding in encodings], rng):
            width = max(len(encodings[i]) for i in batch)
            ids, mask, types = (torch.zeros((len(batch), width), dtype=torch.int64) for _ in range(3))
            for row, i in enumerate(batch):
                encoding = encodings[i]
                ids[row, : len(encoding)] = torch.tensor(encoding.ids)
                types[row, : len(encoding)] = torch.tensor(encoding.type_ids)
                mask[row, : len(encoding)] = 1
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = module(ids, mask, types)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits.float(), torch.tensor([targets[i] for i in batch]), torch.tensor([weights[i] for i in batch])
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            done += 1
            progress(min(1.0, done / steps))
    stored = {"head.weight": head.weight, "head.bias": head.bias}
    for name, (a, b) in added.items():
        stored |= {f"{name}.a": a, f"{name}.b": b * _SCALE}
    save_file({name: value.detach().half().contiguous() for name, value in stored.items()}, adapter)


def _resume(start: Path, added: dict[str, tuple[Any, Any]], head: Any) -> None:
    import torch
    from safetensors.torch import load_file

    stored = load_file(start)
    with torch.no_grad():
        head.weight.copy_(stored["head.weight"])
        head.bias.copy_(stored["head.bias"])
        for name, (a, b) in added.items():
            a.copy_(stored[f"{name}.a"])
            b.copy_(stored[f"{name}.b"] / _SCALE)


def _is_adapted(name: str, layer: Any) -> bool:
    import torch

    depth = re.search(r"\.layer\.(\d+)\.", name)
    return isinstance(layer, torch.nn.Linear) and depth is not None and int(depth.group(1)) >= _FIRST_LAYER


def _add_lora(layer: Any) -> tuple[Any, Any]:
    """Let a linear layer add a trained product of low rank to what it gives; the two matrices."""
    import torch

    a = torch.nn.Parameter(torch.randn(_RANK, layer.in_features) / layer.in_features**0.5)
    b = torch.nn.Parameter(torch.zeros(layer.out_features, _RANK))
    layer.register_forward_hook(lambda _, inputs, output: output + (inputs[0] @ a.T) @ b.T * _SCALE)
    return a, b


def _batches(lengths: Sequence[int], rng: random.Random) -> list[list[int]]:
    """All places in random batches of similar length."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), _BATCH * _POOL):
        pool = sorted(order[start : start + _BATCH * _POOL], key=lengths.__getitem__)
        batches += [pool[i : i + _BATCH] for i in range(0, len(pool), _BATCH)]
    rng.shuffle(batches)
    return batches
