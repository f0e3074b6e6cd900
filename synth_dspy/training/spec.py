"""What one training is: the spec file that `python -m synth_dspy.train spec.json` reads, here or on any machine.

A spec names everything that determines the adapter. Its fingerprint is a hash of that, of the rows' and adapters'
bytes included, so that a training that was done once is found again and never repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from synth_dspy.core.config import METHODS, Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json
from synth_dspy.core.validation import describe_error

Method = Literal["sft", "dpo", "orpo", "kto", "grpo"]
RESERVED = frozenset({"adapters", "dev", "method", "model", "prompts", "rows", "seed", "workspace", "counts"})
"""Fields that a run fills in."""
PLAN = "plan.json"
"""How many rows a training takes in its time: decided once, since another look at a busy machine would say another."""
ADAPTER = "adapter"
ERRORS = "errors.log"
SENT = "-"
"""Stands for a spec's path where the paths are sent to the process that trains."""
LOSSES = 3
"""Counts the changes after which the same spec gives another adapter."""
PROMPTS = 32
"""How many prompts the served model is checked on."""


class Lora(Settings):
    """The adapter's shape. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the projections that get an adapter."""
    layers: int | None = Field(default=None, ge=1)
    """Adapt only this many of the last layers: what lies below is not differentiated. None: all layers."""


class TrainSpec(Settings):
    """One training of one adapter. Paths are absolute, or relative to the spec's folder."""

    method: Method
    model: str
    """The base: a registry name, a GGUF file or a Hugging Face folder (without `embedded/`)."""
    adapters: tuple[Path, ...] = ()
    """Adapters that are merged into the base before training, in order: preferences are tuned on top of SFT."""
    rows: Path
    """JSON lines. sft: `prompt` (chat messages) and `completion` (one assistant message); dpo and orpo: `prompt`,
    `chosen`, `rejected`; kto: `prompt`, `completion`, `label`; grpo: `prompt`, and what the reward reads. Each has an
    `id` and a `source`, the id of the item it was made from; and `reply_tokens`, if replies are cut there."""
    dev: Path | None = None
    """Rows of the same form whose loss decides on stopping early; None: never."""
    prompts: Path | None = None
    """JSON lines with `prompt`: held-out prompts on which the served model must agree with the trained one; where there
    are fewer than 32, prompts of `rows` are added."""
    seed: int = 0
    minutes: float | None = Field(default=None, gt=0)
    """Train on the first rows only, as many as this time is estimated to be enough for; None: on all."""
    lora: Lora = Lora()
    learning_rate: float = Field(default=1e-3, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch: int = Field(default=4, ge=1)
    """Rows of one optimizer step; how many of them are in memory at once is the runner's choice."""
    warmup_steps: int = Field(default=3, ge=0)
    """Steps until the full learning rate; never more than a tenth of all steps."""
    beta: float = Field(default=0.1, gt=0)
    """Weight of the reference model (dpo, kto, grpo), or of the odds ratio (orpo)."""
    max_tokens: int = Field(default=2048, ge=16)
    """Longest row; longer ones are left out and counted, never cut."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: on a GPU bf16 where it has it; on a CPU what models are served in, see `lms/precision.py`."""
    quantize: bool = False
    """Hold the base in 4 bits (QLoRA; needs CUDA and bitsandbytes)."""
    gradient_checkpointing: bool = False
    packing: bool = False
    """Join short rows into one sequence (sft on a GPU)."""
    save_steps: int = Field(default=10, ge=1)
    """Optimizer steps between checkpoints, from which a killed training goes on."""
    eval_steps: int = Field(default=5, ge=1)
    patience: int = Field(default=0, ge=0)
    """Evaluations on `dev` without a better loss before training stops; 0: never."""
    reward: str | None = None
    """For grpo: `module:function` in the workspace, `(row, text) -> float in [0, 1]`."""
    workspace: Path | None = None
    """Where `reward` is imported from."""
    generations: int = Field(default=4, ge=2)
    """Samples of one prompt (grpo)."""
    completion_tokens: int = Field(default=48, ge=1)
    """Longest reply, for grpo's samples and for the parity check."""
    gguf: Literal["Q8_0", "F16", "none"] = "Q8_0"
    """Type of the merged model's tuned tensors, and of those that have to be converted; `none` leaves the adapter
    unmerged, for vLLM."""
    call_token: str | None = None
    """A string, such as `<tool_call>`, that is to be one token: replies begin a function call with it. A model that
    does not know it gives up an unused token of its vocabulary for it."""
    parity: float = Field(default=0.95, ge=0, le=1)
    """Least share of the served model's reply tokens that must be the trained model's own, up to the noise of the
    precision; 0 takes any server that holds the trained weights."""
    threads: int | None = Field(default=None, ge=1)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that stand for all that determines the adapter, whatever its paths are called."""
        settings = self.model_dump(
            mode="json", exclude={"adapters", "model", "rows", "dev", "prompts", "workspace", "threads"}
        )
        inputs = [path for path in (self.rows, self.dev, self.prompts) if path is not None]
        inputs += [
            path / name for path in self.adapters for name in ("adapter_config.json", "adapter_model.safetensors")
        ]
        if self.reward is not None and self.workspace is not None:
            inputs.append(self.workspace.joinpath(*self.reward.partition(":")[0].split(".")).with_suffix(".py"))
        digest = hashlib.sha256(json.dumps(settings | {"losses": LOSSES}, sort_keys=True).encode())
        for path in inputs:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        for path in _weights(self.model):
            digest.update(_ends(path))
        return digest.hexdigest()[:16]


def check_training_options(method: str, options: Mapping[str, Any], also: Iterable[str] = ()) -> None:
    """Whether `[training.options.<method>]` sets what a training has, before any work is done.

    Args:
        method: of the training.
        options: settings by name.
        also: what the method's recipe has beside them, for the spelling of one that does not exist.

    Raises:
        SetupError: a setting does not exist, is another's to set, or has a wrong value; names it.
    """
    where = f"training.options.{method}"
    reserved = sorted(set(options) & RESERVED)
    if reserved:
        raise SetupError(f"{where}.{reserved[0]} is not set there: it follows from the run.")
    try:
        TrainSpec.model_validate({**options, "method": method, "model": "model", "rows": "rows.jsonl"})
    except ValidationError as error:
        raise SetupError(describe_error(error, TrainSpec, within=f"{where}.", also=also, hidden=RESERVED)) from error


def read_spec(path: Path) -> TrainSpec:
    """The spec of a file, its paths made absolute.

    Raises:
        SetupError: there is no such file, or it sets something that does not exist; names the key.
    """
    value = read_json(path, "The training spec")
    method = value.get("method") if isinstance(value, dict) else None
    if method not in METHODS:
        raise SetupError(f"The training spec {path} names the method {method!r}; the methods are {', '.join(METHODS)}.")
    try:
        spec = TrainSpec.model_validate(value)
    except ValidationError as error:
        raise SetupError(f"In the training spec {path}, {describe_error(error, TrainSpec)}") from error
    try:
        return _absolute(spec, path.resolve().parent)
    except (OSError, ValueError) as error:  # a name that is too long, or holds a null byte
        raise SetupError(f"The training spec {path} names a file that cannot be one: {error}.") from error


def _absolute(spec: TrainSpec, base: Path) -> TrainSpec:
    return spec.model_copy(
        update={
            "rows": (base / spec.rows).resolve(),
            "dev": spec.dev and (base / spec.dev).resolve(),
            "prompts": spec.prompts and (base / spec.prompts).resolve(),
            "workspace": spec.workspace and (base / spec.workspace).resolve(),
            "model": str((base / spec.model).resolve()) if (base / spec.model).exists() else spec.model,
            "adapters": tuple((base / adapter).resolve() for adapter in spec.adapters),
        }
    )


def _weights(model: str) -> list[Path]:
    """The files that hold the base's weights."""
    from synth_dspy.models.weights.registry import resolve

    path = resolve(model)
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


def _ends(path: Path, size: int = 1 << 20) -> bytes:
    """A hash of a large file's length, beginning and end: a file that was replaced gives another."""
    with path.open("rb") as file:
        head = file.read(size)
        length = file.seek(0, 2)
        file.seek(max(0, length - size))
        return hashlib.sha256(b"%d" % length + head + file.read()).digest()
