"""Checks that a merged file holds the trained weights, tensor by tensor, without prompts or noise.

The model in memory gives the expected value of every matrix: W, or W + D with D = B·A·scale if it has an adapter. The
file gives the actual value, up to the rounding of its type. Two figures separate right from wrong merges:

- the error, ||served - expected|| / ||expected||: large for a missing permutation or a foreign base;
- the share of the change, <served - W, D> / <D, D>: 1 for a right merge however coarse the rounding, since rounding
  errors are uncorrelated with D; 1.1 for a scale 10 % too large, about 0 for the adapter of another projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import ArmError

LARGEST_ERROR = {"Q8_0": 2e-2}
"""Largest relative error of a tensor, by the file's type: at least twice the rounding error."""
OTHER_ERROR = {"float32": 1e-3, "float16": 2e-3, "bfloat16": 6e-3}
"""The same for all other types, by the type of the weights in memory."""
SHARE_TOLERANCE = 0.04
"""How far from 1 the share of the change may be, besides the noise of rounding."""
_SIGMAS = 5.0
ADVICE = (
    "Training again would give the same file: set gguf to the other of Q8_0 and F16, or take the model's Hugging Face "
    "folder as the base."
)


def check_weights(model: Any, served: Path) -> int:
    """Compare a trained model with the GGUF file that is to be served.

    Args:
        model: a torch model of the Llama or Qwen2 family, with its LoRA adapter; if the adapter is merged, changes that
            are smaller than the file's rounding cannot be checked.
        served: the file.

    Returns:
        The number of tensors compared.

    Raises:
        ArmError: the file holds other weights; names the first tensor that differs, and how.
    """
    from synth_dspy.models.weights.gguf import open_gguf, values_of
    from synth_dspy.models.weights.hf_folder import deinterleaved
    from synth_dspy.training.gguf_folder import tensor_names

    reader = open_gguf(served)
    architecture = str(reader.fields["general.architecture"].contents())
    config = model.config
    names = dict(tensor_names(architecture, int(config.num_hidden_layers)))
    heads = {"q_proj": int(config.num_attention_heads), "k_proj": int(config.num_key_value_heads)}
    parameters, modules = _parts(model)
    arrivals = []
    for tensor in reader.tensors:
        name = names.get(tensor.name)
        if name is None or name not in parameters:
            raise ArmError(f"The merged file {served} has a tensor {tensor.name} that the trained model does not have.")
        values = values_of(tensor)
        if architecture == "llama" and name.split(".")[-2] in heads:
            values = deinterleaved(values, heads[name.split(".")[-2]])
        module = modules.get(name)
        change = None if module is None else _change(module, parameters[name])  # one at a time, to save memory
        problem, arrival = _compare(values, parameters[name], change, kind=tensor.tensor_type.name)
        if arrival is not None:
            arrivals.append(arrival)
            problem = problem or _explain_missing([arrival])
        if problem is not None:
            raise ArmError(f"The merged file is not the trained model: {name} {problem}. {ADVICE}")
    # All tensors together can reveal an error that is below the noise of each.
    if (problem := _explain_missing(arrivals)) is not None:
        raise ArmError(f"The merged file is not the trained model: it {problem}. {ADVICE}")
    return len(reader.tensors)


def _parts(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The base's parameters by Hugging Face's names, and the modules of those that have an adapter."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    parameters = {
        name.replace(".base_layer", ""): parameter
        for name, parameter in base.named_parameters()
        if ".lora_" not in name
    }
    modules = {f"{name}.weight": module for name, module in base.named_modules() if hasattr(module, "lora_A")}
    return parameters, modules


def _change(module: Any, weights: Any) -> Any:
    """The change that a module's active adapters make to its weights."""
    import torch

    from synth_dspy.training.adapters import adapted

    with torch.no_grad():
        before = weights.detach().float()
        after = before
        for key in module.active_adapters:
            if key in module.lora_A:
                size = module.lora_magnitude_vector[key].weight if key in module.lora_magnitude_vector else None
                after = adapted(after, module.get_delta_weight(key).float(), size)
        return after - before


@dataclass(frozen=True, slots=True)
class _Arrival:
    """How much of a tensor's change is in the file, as sums over its weights.

    Attributes:
        change: sum of the squares of the change.
        arrived: sum of the products of the change and the file's actual change.
        least: the same for the expected weights after rounding, as far as it gets lost. A change of less than half a
            step gets lost where the weights lie on the steps of the type, and arrives in the mean where they do not.
            Which 16-bit steps they lie on is unknown, since the base's file may have had more digits than the weights
            in memory, or fewer: this is the sum if they all do.
        noise: variance of `arrived`, from the file's error.
        error: sum of the squares of the file's error.
    """

    change: float
    arrived: float
    least: float
    noise: float
    error: float


def _explain_missing(arrivals: Sequence[_Arrival]) -> str | None:
    """Describe what is wrong with the change of some tensors; None if nothing is."""
    size = sum(each.change for each in arrivals)
    if not size:
        return None
    share, least = (sum(values) / size for values in zip(*((a.arrived, a.least) for a in arrivals), strict=True))
    slack = SHARE_TOLERANCE + _SIGMAS * math.sqrt(sum(each.noise for each in arrivals)) / size
    # A quantised base has weights halfway between two steps, which any change moves by a whole one.
    below_rounding = size < sum(each.error for each in arrivals)
    most = math.inf if below_rounding else max(least, 1.0) + slack
    if min(least, 1.0) - slack <= share <= most:
        return None
    return f"has {share:.0%} of the change that was trained"


def _compare(values: Any, weights: Any, change: Any, *, kind: str) -> tuple[str | None, _Arrival | None]:
    """A description of what is wrong with a tensor of the file, or None, and the arrival of its change."""
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
                f"differs by {error / size:.2%} of its size, but rounding to {kind} accounts for at most {largest:.1%}",
                None,
            )
        if change is None:
            return None, None
        change = change.float()
        steps = _rounded(before, kind) if kind == "F16" else before
        squares = float((change * change).sum())
        return None, _Arrival(
            change=squares,
            arrived=float(((served - before) * change).sum()),
            least=float(((_rounded(steps + change, kind) - steps) * change).sum()),
            noise=error**2 / served.numel() * squares,
            error=error**2,
        )


def _rounded(weights: Any, kind: str) -> Any:
    """Weights as a file of this type holds them."""
    if kind == "F16":
        return weights.half().float()
    if kind != "Q8_0":
        return weights
    import gguf
    import torch

    quantised = gguf.quants.quantize(weights.cpu().numpy(), gguf.GGMLQuantizationType.Q8_0)
    values = gguf.quants.dequantize(quantised, gguf.GGMLQuantizationType.Q8_0)
    return torch.from_numpy(values).to(weights.device)
