"""Does the merged file hold the trained weights? Compared tensor by tensor, so no prompt and no noise is involved.

The model in memory says what every matrix should be: W, and for one with an adapter W + D, D = B·A·scale. The file says
what it is, up to the rounding of its type. Two figures tell a right merge from a wrong one:

- the error, ||served - expected|| / ||expected||: a permutation that was forgotten or a foreign base makes it large;
- how much of the change arrived, <served - W, D> / <D, D>: 1 for a right merge however coarse the rounding, since
  rounding errors are uncorrelated with D; 1.1 for a scale 10 % too large, about 0 for the adapter of another
  projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.errors import ArmError

LARGEST_ERROR = {"Q8_0": 2e-2}
"""Relative error of a tensor, by the file's type: twice what rounding to it makes, and more."""
OTHER_ERROR = {"float32": 1e-3, "float16": 2e-3, "bfloat16": 6e-3}
"""The same for all other types, by the type of the weights in memory."""
SHARE_TOLERANCE = 0.04
"""How far from 1 the share of a change that arrived may be, besides the noise of rounding."""
_SIGMAS = 5.0


def check_weights(model: Any, served: Path) -> int:
    """Compare a trained model with the GGUF file that is to be served in its place.

    Args:
        model: torch's, of the Llama or Qwen2 family; with its LoRA adapter, or with the adapter merged, in which case
            changes that are smaller than the file's rounding cannot be checked.
        served: the file.

    Returns:
        How many tensors were compared.

    Raises:
        ArmError: the file holds other weights; names the first tensor that differs, and how.
    """
    from synth_dspy.lms.gguf import open_gguf, values_of
    from synth_dspy.lms.hf_folder import deinterleaved
    from synth_dspy.training.gguf_folder import tensor_names

    reader = open_gguf(served)
    architecture = str(reader.fields["general.architecture"].contents())
    config = model.config
    names = dict(tensor_names(architecture, int(config.num_hidden_layers)))
    heads = {"q_proj": int(config.num_attention_heads), "k_proj": int(config.num_key_value_heads)}
    parameters, adapted = _parts(model)
    arrivals = []
    for tensor in reader.tensors:
        name = names.get(tensor.name)
        if name is None or name not in parameters:
            raise ArmError(f"The merged file {served} has a tensor {tensor.name} that the trained model has not.")
        values = values_of(tensor)
        if architecture == "llama" and name.split(".")[-2] in heads:
            values = deinterleaved(values, heads[name.split(".")[-2]])
        module = adapted.get(name)
        change = None if module is None else _change(module)  # one at a time: together they are half a model
        problem, arrival = _compare(values, parameters[name], change, kind=tensor.tensor_type.name)
        if arrival is not None:
            arrivals.append(arrival)
            problem = problem or _missing([arrival])
        if problem is not None:
            raise ArmError(f"The merged file is not the trained model: {name} {problem}. Remove {served}, train again.")
    # Many small tensors together show what none of them does by itself.
    if (problem := _missing(arrivals)) is not None:
        raise ArmError(f"The merged file is not the trained model: it {problem}. Remove {served}, train again.")
    return len(reader.tensors)


def _parts(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters by Hugging Face's names, without the adapter's; and the module of each that has an adapter."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    parameters = {
        name.replace(".base_layer", ""): parameter
        for name, parameter in base.named_parameters()
        if ".lora_" not in name
    }
    adapted = {f"{name}.weight": module for name, module in base.named_modules() if hasattr(module, "lora_A")}
    return parameters, adapted


def _change(module: Any) -> Any:
    """What a module's active adapters add to its weights."""
    return sum(module.get_delta_weight(key) for key in module.active_adapters if key in module.lora_A)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """How much of a tensor's change is in the file, as sums over its weights.

    Attributes:
        change: squares of the change.
        arrived: products of the change with what the file differs by from the weights before.
        rounded: the same products for the expected weights rounded as the file rounds: of a change smaller than its
            steps little arrives where the weights themselves lie on the steps.
        noise: variance of `arrived`, from the file's error.
    """

    change: float
    arrived: float
    rounded: float
    noise: float


def _missing(arrivals: Sequence[_Arrival]) -> str | None:
    """What is wrong with the change of some tensors, in words; None if nothing is."""
    size = sum(each.change for each in arrivals)
    if not size:
        return None
    share, rounded = sum(each.arrived for each in arrivals) / size, sum(each.rounded for each in arrivals) / size
    slack = SHARE_TOLERANCE + _SIGMAS * math.sqrt(sum(each.noise for each in arrivals)) / size
    if min(abs(share - 1), abs(share - rounded)) <= slack:
        return None
    return f"has {share:.0%} of the change that was trained"


def _compare(values: Any, weights: Any, change: Any, *, kind: str) -> tuple[str | None, _Arrival | None]:
    """What is wrong with a tensor of the file as a whole, in words, and how much of its change arrived."""
    import torch

    with torch.inference_mode():
        before = weights.detach().float()
        served = torch.from_numpy(values if values.flags.writeable else values.copy()).to(before.device)
        if served.shape != before.shape:
            return f"has the shape {tuple(served.shape)} instead of {tuple(before.shape)}", None
        expected = before if change is None else before + change.float()
        error = float((served - expected).norm())
        size = float(expected.norm())
        largest = LARGEST_ERROR.get(kind, OTHER_ERROR.get(str(weights.dtype).removeprefix("torch."), 1e-3))
        if error > largest * size + 1e-12:
            return (
                f"differs by {error / size:.2%} of its size, and rounding to {kind} makes at most {largest:.1%}",
                None,
            )
        if change is None:
            return None, None
        change = change.float()
        rounded = expected.half().float() if kind == "F16" else expected
        squares = float((change * change).sum())
        return None, _Arrival(
            change=squares,
            arrived=float(((served - before) * change).sum()),
            rounded=float(((rounded - before) * change).sum()),
            noise=error**2 / served.numel() * squares,
        )
