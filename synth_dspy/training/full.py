"""All weights instead of an adapter (`lora = "none"`): what is trained, and the model folder that comes of it.

The weights are trained in float32, whatever the base's type, since a step of 1e-5 is lost in the rounding of 16-bit
weights; so the process needs 16 bytes per weight, see `memory.py`. The result is a Hugging Face folder in the form that
`gguf_folder` writes (matrices in float16, norms in float32), from which the served file is made without further
rounding, and on which later trainings build.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.models.weights.cache import publish
from synth_dspy.models.weights.trained import SPEC, WHOLE
from synth_dspy.training.memory import GIB, USABLE, Memory
from synth_dspy.training.spec import ADAPTER, TrainSpec, read_spec

OTHER_WEIGHTS = (".bin", ".gguf", ".pth", ".pt", ".safetensors")


def model_of(training: Path) -> tuple[str, tuple[Path, ...]]:
    """The base and the adapters, in order, that make up a finished training's model."""
    spec = read_spec(training / SPEC)
    return (str(training / WHOLE), ()) if spec.full else (spec.model, (*spec.adapters, training / ADAPTER))


def trained_weights(model: Any) -> dict[str, Any]:
    """The tensors that a training changes, by name: the adapter's, or all parameters (tied ones once)."""
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        weights: dict[str, Any] = get_peft_model_state_dict(model, save_embedding_layers=False)
        return weights
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def set_trained_weights(model: Any, weights: Mapping[str, Any]) -> None:
    """Set what `trained_weights` returned."""
    if hasattr(model, "peft_config"):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, dict(weights))
        return
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def write_folder(model: Any, tokenizer: Any, base: Path, target: Path) -> None:
    """Write a trained model as a Hugging Face folder, atomically.

    Args:
        model: the torch model, all of its weights trained.
        tokenizer: the tokeniser if it differs from the base's; None: the base's own files.
        base: the folder of the base, for its configuration.
        target: the folder to write.
    """
    import torch
    from safetensors.torch import save_file

    with publish(target) as part:
        part.mkdir()
        for path in base.iterdir():
            if path.is_file() and path.suffix not in OTHER_WEIGHTS and not path.name.endswith(".index.json"):
                shutil.copy(path, part / path.name)
        if tokenizer is not None:
            tokenizer.save_pretrained(part)
        tensors = {
            name: (value.half() if value.ndim > 1 else value.float()).cpu().contiguous()
            for name, value in trained_weights(model).items()
        }
        if not all(torch.isfinite(value).all() for value in tensors.values()):
            raise SetupError(f"A trained weight is too large for float16: lower the learning rate of {target.parent}.")
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})


def check_room(spec: TrainSpec, need: Memory, *, free: float, device: str) -> None:
    """Refuse a training of all weights for which there is not enough memory.

    Args:
        spec: what to train.
        need: the memory that it needs.
        free: free bytes of the device.
        device: "cpu" or "cuda".

    Raises:
        SetupError: `need` is more than can be planned with.
    """
    if need.total <= USABLE * free:
        return
    where = f"training.options.{spec.method}"
    raise SetupError(
        f"Training all weights of {spec.model} needs {need.total / GIB:.1f} GiB "
        f"{'on the GPU' if device == 'cuda' else 'of memory'}, and {USABLE * free / GIB:.1f} GiB can be planned with: "
        f"leave out {where}.lora = none to train an adapter, lower {where}.max_tokens (now {spec.max_tokens}), or take "
        "a smaller model."
    )
