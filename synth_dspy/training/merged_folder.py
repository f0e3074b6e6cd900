"""Merges adapters into a Hugging Face folder (safetensors), for programs that read no adapters.

Adapters stay adapters until somebody wants this. The base's own files are read and written one shard at a time, so the
largest shard, not the model, has to fit into memory; an adapter trained on 4-bit weights is merged into the 16-bit
base, which is what the parity check compares with.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.models.weights.cache import publish
from synth_dspy.models.weights.trained import SPEC, WHOLE
from synth_dspy.training.adapters import (
    adapted,
    check_adapter,
    identity_of,
    magnitudes,
    modules,
    read_adapter_config,
    scaling,
)
from synth_dspy.training.full import OTHER_WEIGHTS, model_of
from synth_dspy.training.spec import ADAPTER, read_spec


def write_merged(training: Path, target: Path) -> Path:
    """Write a finished training's model, with the adapters below it, as a Hugging Face folder.

    Args:
        training: The training's folder.
        target: The folder to write, which must not exist.

    Returns:
        `target`.

    Raises:
        SetupError: There is no finished training, or `target` exists.
        ArmError: An adapter belongs to another base.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file
    from transformers import AutoConfig

    from synth_dspy.training.base import base_folder, load_tokenizer
    from synth_dspy.training.call_token import find

    spec = read_spec(training / SPEC)
    if not (training / (WHOLE if spec.full else ADAPTER)).is_dir():
        raise SetupError(
            f"{training} holds nothing trained yet: train it first, python -m synth_dspy.train {training}."
        )
    if target.exists():
        raise SetupError(f"{target} exists: name a new folder for the merged model.")
    model, adapters = model_of(training)
    base = base_folder(model)
    shards = sorted(base.glob("*.safetensors"))
    config = AutoConfig.from_pretrained(base, local_files_only=True)
    token = spec.call_token
    if (
        token is not None
        and not spec.full
        and find(load_tokenizer(base), token, config.vocab_size).replaces is not None
    ):
        raise SetupError(f"The training gave the base a token {token!r}, which only its merged GGUF has: use that.")
    shapes, norms = {}, []
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                shapes[name] = tuple(file.get_slice(name).get_shape())
                if len(shapes[name]) == 1:
                    norms.append((name, file.get_tensor(name)))
    fingerprint = identity_of(SimpleNamespace(config=config, named_parameters=lambda: norms))
    changes = []
    for adapter in adapters:
        matrices = modules(adapter)
        check_adapter(adapter, matrices, shapes, fingerprint)
        changes.append((read_adapter_config(adapter), matrices, magnitudes(adapter)))
    with publish(target) as part:
        part.mkdir()
        for path in base.iterdir():
            if path.is_file() and path.suffix not in OTHER_WEIGHTS:
                shutil.copy(path, part / path.name)
        for shard in shards:
            with safe_open(shard, framework="pt") as file:
                tensors = {name: _merged(name, file.get_tensor(name), changes) for name in file.keys()}  # noqa: SIM118
                save_file(tensors, part / shard.name, metadata=file.metadata())
    return target


def _merged(name: str, weight: Any, changes: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]) -> Any:
    """A tensor with every adapter's change, in its own type, rounded once."""
    import torch

    module = name.removesuffix(".weight")
    own = [(config, *matrices[module], sizes.get(module)) for config, matrices, sizes in changes if module in matrices]
    if not own:
        return weight
    total = weight.float()
    for config, a, b, magnitude in own:
        change = torch.from_numpy(b) @ torch.from_numpy(a) * scaling(config, module, len(a))
        total = adapted(total, change, None if magnitude is None else torch.from_numpy(magnitude))
    return total.to(weight.dtype)
