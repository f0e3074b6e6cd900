"""Loading base models into torch for training: from a registry name, a GGUF file or a Hugging Face folder.

A GGUF file is dequantised once and cached as a Hugging Face folder, which any PEFT or TRL program can read too. Its
matrices are stored as float16: that changes them by 2e-4 of their size (bfloat16: 1.4e-3), a hundredth of the error of
4-bit quantisation; norms and biases stay float32, hence exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from synth_dspy.core.errors import SetupError


def load_base(
    model: str | Path,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    quantize: bool = False,
    adapters: Sequence[Path] = (),
    attention: str = "sdpa",
) -> tuple[Any, Any]:
    """A causal language model ready for training, and its tokeniser with its own chat template.

    Args:
        model: A registry name, a GGUF file or a Hugging Face folder.
        precision: Type of the weights in memory.
        quantize: Quantise the linear layers to 4 bits: NF4 with double quantisation, Dettmers et al., "QLoRA", arXiv:
            2305.14314. Needs CUDA and bitsandbytes.
        adapters: Adapters to merge into the weights, in order, before quantisation.
        attention: The attention implementation.

    Returns:
        (model, tokenizer). The model is in evaluation mode, on the GPU if there is one.

    Raises:
        SetupError: No such model, it cannot be trained, or `quantize` is not possible here.
        ArmError: An adapter belongs to another base.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from synth_dspy.models.embedded.torch_model import attention as attention_of

    cuda = torch.cuda.is_available()
    quantization = _four_bits(cuda) if quantize else None
    folder = base_folder(model)
    config = _trainable(folder)
    tokenizer = load_tokenizer(model)
    options: dict[str, Any] = {
        "dtype": torch.bfloat16 if precision == "bf16" or quantize else torch.float32,
        "attn_implementation": attention if attention != "sdpa" else attention_of(config),
        "use_safetensors": True,
        "local_files_only": True,
    }
    try:
        if quantize and adapters:
            loaded = _quantized_with(folder, adapters, options, quantization)
        else:
            place = {"device_map": {"": 0}} if cuda else {}
            loaded = AutoModelForCausalLM.from_pretrained(folder, quantization_config=quantization, **place, **options)
            loaded = apply_adapters(loaded, adapters)
    except (OSError, ValueError) as error:
        raise SetupError(f"{folder} cannot be loaded for training: {_first_line(error)}") from error
    return loaded.eval(), tokenizer


def load_tokenizer(model: str | Path) -> Any:
    """The tokeniser of a base model, with its chat template as it is served.

    Raises:
        SetupError: No such model, or it has no tokeniser that can be loaded.
    """
    from synth_dspy.models.chat import open_tokenizer

    return open_tokenizer(base_folder(model))


def _trainable(folder: Path) -> Any:
    """The configuration of a model folder, unless the trainers would compute another loss than the model's own."""
    from synth_dspy.models.embedded.torch_model import served_config

    config = served_config(folder)
    for name in ("logit_scale", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise SetupError(f"{folder} scales its logits ({name}), which the trainers do not; name another model")
    return config


def base_folder(model: str | Path) -> Path:
    """The Hugging Face folder (safetensors) of a base model; a GGUF file is converted unless it is cached.

    Raises:
        SetupError: No such model, or it cannot be trained.
    """
    from synth_dspy.models.weights.gguf import cached_copy, read_header
    from synth_dspy.models.weights.registry import resolve
    from synth_dspy.training.gguf_folder import write_folder

    path = resolve(model)
    if path.is_dir():
        if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            raise SetupError(
                f"{path} cannot be trained: it is not a Hugging Face folder with config.json and .safetensors files; "
                "name one, or a GGUF file"
            )
        return path
    read_header(path)  # reports a damaged file before minutes are spent on it
    return cached_copy(path, f"{path.stem}-hf", lambda part: write_folder(path, part), suffix="")


def apply_adapters(model: Any, adapters: Sequence[Path]) -> Any:
    """Merge PEFT LoRA adapters into the weights in memory, in order.

    Returns:
        The same model.

    Raises:
        ArmError: An adapter belongs to another base, or cannot be read.
        SetupError: The model is quantised: an adapter's changes would be lost by rounding; see `load_base`.
    """
    import torch

    from synth_dspy.training.adapters import (
        adapted,
        check_adapter,
        identity_of,
        magnitudes,
        modules,
        read_adapter_config,
        scaling,
    )

    if adapters and getattr(model, "is_quantized", False):
        raise SetupError("an adapter cannot be merged into 4-bit weights; pass the adapters to load_base")
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for adapter in adapters:
        config, matrices, sizes = read_adapter_config(adapter), modules(adapter), magnitudes(adapter)
        check_adapter(adapter, matrices, shapes, identity_of(model))
        with torch.no_grad():
            for name, (a, b) in matrices.items():
                weight = model.get_parameter(f"{name}.weight")
                delta = torch.from_numpy(b).to(weight.device) @ torch.from_numpy(a).to(weight.device)
                size = torch.from_numpy(sizes[name]).to(weight.device) if name in sizes else None
                weight.copy_(adapted(weight.float(), delta * scaling(config, name, len(a)), size))
    return model


def _four_bits(cuda: bool) -> Any:
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if not cuda:
        raise SetupError("quantize = true needs a CUDA GPU, but this machine has none; set quantize = false")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SetupError("quantize = true needs bitsandbytes; `pip install bitsandbytes`, or set quantize = false")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def _quantized_with(folder: Path, adapters: Sequence[Path], options: Mapping[str, Any], quantization: Any) -> Any:
    """Merge in 16 bits in main memory, then quantise the result to 4 bits, so that it is rounded only once."""
    import tempfile

    from transformers import AutoModelForCausalLM

    from synth_dspy.core.cache import cache_home

    with tempfile.TemporaryDirectory(dir=cache_home(), prefix="merged-") as scratch:
        merged = apply_adapters(AutoModelForCausalLM.from_pretrained(folder, **options), adapters)
        merged.save_pretrained(scratch)
        del merged
        model = AutoModelForCausalLM.from_pretrained(
            scratch, quantization_config=quantization, device_map={"": 0}, **options
        )
    model.config._name_or_path = model.name_or_path = str(folder)  # PEFT writes it into the adapter
    return model


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
