"""The spec file of a training, for `python -m synth_dspy.train spec.json` on this or any other machine.

A spec contains everything that determines the adapter. Its fingerprint is a hash of that, including the contents of
the rows and adapters, so that a training is never repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from synth_dspy.core.config import METHODS, Settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json
from synth_dspy.core.training_facts import is_judge
from synth_dspy.core.validation import describe_error

Method = Literal["sft", "dpo", "orpo", "kto", "grpo", "rloo", "online_dpo", "cpt"]
ONLINE = ("grpo", "rloo", "online_dpo")
"""Methods that sample replies while they train, and score them with a reward."""
FULL = ("sft", "dpo", "orpo", "cpt")
"""Methods that can train all weights."""
ENGINE = "synth_dspy."
"""Prefix of the modules whose functions are rewards without a workspace."""
RESERVED = frozenset({"adapters", "dev", "method", "model", "prompts", "rows", "seed", "workspace", "counts"})
"""Fields that a run sets."""
NO_LORA = "none"
"""In `TrainSpec.lora`: train all weights."""
PLAN = "plan.json"
"""The number of rows to train on: decided once, since another estimate on a busy machine would differ."""
ADAPTER = "adapter"
ERRORS = "errors.log"
FROM_STDIN = "-"
"""In place of a spec's path: the training process reads paths from its standard input."""
LOSSES = 3
"""Version of the training code; raise it when the same spec gives another adapter."""
PROMPTS = 32
"""Number of prompts of the parity check."""


class Lora(Settings):
    """The adapter's shape. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685."""

    rank: int = Field(default=16, ge=0)
    """0: no adapter."""
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the projections that get an adapter."""
    layers: int | None = Field(default=None, ge=1)
    """Adapt only this many of the last layers, so that no gradients are computed below them. None: all layers."""
    dora: bool = False
    """Learn the magnitude of every row too. Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation",
    arXiv:2402.09353."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank, for high ranks. Kalajdzievski, "A Rank Stabilization Scaling
    Factor for Fine-Tuning with LoRA", arXiv:2312.03732."""


def _rank_of_none(value: Any) -> Any:
    return {"rank": 0} if value == NO_LORA else value


def is_full(lora: Any) -> bool:
    """Whether a setting of `lora`, as somebody gave it, means all weights."""
    lora = _rank_of_none(lora)
    return isinstance(lora, Mapping) and lora.get("rank") == 0


class TrainSpec(Settings):
    """One training of one adapter. Paths are absolute, or relative to the spec's folder."""

    method: Method
    model: str
    """The base: a registry name, a GGUF file or a Hugging Face folder (without `embedded/`)."""
    adapters: tuple[Path, ...] = ()
    """Adapters to merge into the base before training, in order: preferences are trained on top of SFT."""
    rows: Path
    """JSON lines. sft: `prompt` (chat messages) and `completion` (one assistant message); dpo and orpo: `prompt`,
    `chosen`, `rejected`; kto: `prompt`, `completion`, `label`; grpo, rloo and online_dpo: `prompt`, and the fields that
    the reward reads; cpt: `text`. Each has an `id` and a `source` (the id of its example, or of its document), and
    `reply_tokens` if replies are cut."""
    dev: Path | None = None
    """Rows of the same form for early stopping; None: no early stopping."""
    prompts: Path | None = None
    """JSON lines with `prompt`: held-out prompts for the parity check; if there are fewer than 32, prompts of `rows`
    are added."""
    seed: int = 0
    minutes: float | None = Field(default=None, gt=0)
    """Time limit: train on as many of the first rows as are estimated to fit; None: all rows."""
    lora: Annotated[Lora, BeforeValidator(_rank_of_none)] = Lora()
    """The adapter; `none`, which is rank 0: train all weights, where memory allows (sft, dpo, orpo, cpt)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    epochs: float = Field(default=1.0, gt=0)
    batch: int = Field(default=4, ge=1)
    """Rows per optimizer step; the runner chooses the size of micro-batches."""
    warmup_steps: int = Field(default=3, ge=0)
    """Warm-up steps of the learning rate; at most a tenth of all steps."""
    beta: float = Field(default=0.1, gt=0)
    """Weight of the reference model (dpo, kto and those with a reward), or of the odds ratio (orpo)."""
    max_tokens: int = Field(default=2048, ge=16)
    """Longest row; longer rows are left out and counted. cpt: length of a block, into which all texts are packed."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 on a GPU that supports it; on a CPU the serving precision, see `models/embedded/precision.py`."""
    quantize: bool | Literal["auto"] = False
    """Quantise the base to 4 bits (QLoRA; needs CUDA and bitsandbytes); `auto`: only if it does not fit otherwise."""
    gradient_checkpointing: bool | Literal["auto"] = False
    """Compute activations again instead of keeping them; `auto`: only if they do not fit (on a GPU)."""
    optimizer: Literal["adamw", "adamw_8bit", "auto"] = "adamw"
    """AdamW, with moments of 8 bits (needs CUDA and bitsandbytes); `auto`: only if 32 bits do not fit."""
    kernels: Literal["auto", "liger", "none"] = "auto"
    """Fused kernels for norms, RoPE and SwiGLU; `auto`: Liger's, where they are installed, on a GPU."""
    packing: bool = False
    """Fill micro-batches with rows up to `micro_tokens`, without padding (sft, dpo, orpo)."""
    micro_tokens: int | None = Field(default=None, ge=16)
    """Tokens per micro-batch with `packing`; None: `max_tokens`."""
    save_steps: int = Field(default=10, ge=1)
    """Optimizer steps between checkpoints."""
    eval_steps: int = Field(default=5, ge=1)
    patience: int = Field(default=0, ge=0)
    """Evaluations on `dev` without a better loss before training stops; 0: no early stopping."""
    reward: str | None = None
    """For grpo, rloo and online_dpo: `module:function` in the workspace, `(row, text) -> float in [0, 1]`; `judge`, or
    `judge:` and its name: the run that started the training scores the replies."""
    workspace: Path | None = None
    """The folder that `reward` is imported from."""
    generations: int = Field(default=4, ge=2)
    """Samples per prompt (grpo, rloo; online_dpo has two)."""
    completion_tokens: int = Field(default=48, ge=1)
    """Longest reply, for sampled ones (grpo, rloo, online_dpo) and for the parity check."""
    gguf: Literal["Q8_0", "F16", "none"] = "Q8_0"
    """Type of the merged model's tuned and converted tensors (F16 where all weights are trained); `none` leaves the
    adapter unmerged, for vLLM. A base that transformers serves keeps its adapter unmerged in any case."""
    call_token: str | None = None
    """A string, such as `<tool_call>`, that becomes one token and begins the function calls in replies. In a model
    without it, it replaces an unused token of the vocabulary."""
    parity: float = Field(default=0.95, ge=0, le=1)
    """Minimum share of the served model's reply tokens that must agree with the trained model, up to the noise of the
    precision; 0 accepts any server that has the trained weights."""
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _can_be_full(self) -> TrainSpec:
        if not self.full:
            return self
        if self.method not in FULL:
            raise ValueError(f"lora = none, all weights, is for {', '.join(FULL)}; {self.method} trains an adapter")
        if self.quantize is True:
            raise ValueError("lora = none trains all weights, which 4-bit weights do not allow; set quantize = false")
        if self.gguf == "none":
            raise ValueError("lora = none leaves no adapter, so gguf cannot be none; set it to F16")
        return self

    @property
    def full(self) -> bool:
        """Whether all weights are trained, without an adapter."""
        return self.lora.rank == 0

    @property
    def sampled(self) -> int:
        """Samples per prompt; 0 for a method that takes none."""
        return 0 if self.method not in ONLINE else 2 if self.method == "online_dpo" else self.generations

    @property
    def scored_by_run(self) -> bool:
        """Whether the reward is the judge of the run that started the training."""
        return is_judge(self.reward)

    def fingerprint(self) -> str:
        """A hash of everything that determines the adapter, sixteen hexadecimal digits; paths do not count."""
        settings = self.model_dump(
            mode="json", exclude={"adapters", "model", "rows", "dev", "prompts", "workspace", "threads"}
        )
        inputs = [path for path in (self.rows, self.dev, self.prompts) if path is not None]
        inputs += [
            path / name for path in self.adapters for name in ("adapter_config.json", "adapter_model.safetensors")
        ]
        if (module := reward_file(self.reward, self.workspace)) is not None:
            inputs.append(module)
        digest = hashlib.sha256(json.dumps(settings | {"losses": LOSSES}, sort_keys=True).encode())
        for path in inputs:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        for path in _weights(self.model):
            digest.update(_ends(path))
        return digest.hexdigest()[:16]


def reward_file(reward: str | None, workspace: Path | None) -> Path | None:
    """The file that a reward is imported from; None for the judge and for a function of this package.

    Raises:
        SetupError: the workspace has no such module.
    """
    if not reward or workspace is None or is_judge(reward) or reward.startswith(ENGINE):
        return None
    module = reward.partition(":")[0]
    path = workspace.joinpath(*module.split("."))
    file = next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)
    if file is None:
        raise SetupError(f"The workspace {workspace} has no module {module}, which has the reward {reward!r}.")
    return file


def check_training_options(method: str, options: Mapping[str, Any], also: Iterable[str] = ()) -> None:
    """Check `[training.options.<method>]` before any work is done.

    Args:
        method: the training method.
        options: settings by name.
        also: names of the recipe's own settings, for suggestions.

    Raises:
        SetupError: a setting does not exist, cannot be set there, or has an invalid value; names it.
    """
    where = f"training.options.{method}"
    reserved = sorted(set(options) & RESERVED)
    if reserved:
        raise SetupError(f"{where}.{reserved[0]} cannot be set: it follows from the run.")
    if options.get("gguf") == "none":
        raise SetupError(
            f"{where}.gguf = none would serve the tuned model by vLLM on the GPU, and the student that it is compared "
            "with by another engine: their scores and latencies could not be compared. Set it to Q8_0 or F16; adapters "
            "stay as they are either way, and lm.finetune of your own code takes none."
        )
    if method in ONLINE and options.get("patience"):
        raise SetupError(f"{where}.patience cannot be set: {method} has no loss on dev rows that could stop it early.")
    try:
        TrainSpec.model_validate({**options, "method": method, "model": "model", "rows": "rows.jsonl"})
    except ValidationError as error:
        raise SetupError(describe_error(error, TrainSpec, within=f"{where}.", also=also, hidden=RESERVED)) from error


def read_spec(path: Path) -> TrainSpec:
    """Read a spec file, and make its paths absolute.

    Raises:
        SetupError: the file does not exist, or has an unknown or invalid field; names it.
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
    except (OSError, ValueError) as error:  # a name that is too long, or contains a null byte
        raise SetupError(f"The training spec {path} contains an invalid path: {error}.") from error


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
    """The files with the base's weights."""
    from synth_dspy.models.weights.registry import resolve

    path = resolve(model)
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


def _ends(path: Path, size: int = 1 << 20) -> bytes:
    """A hash of a large file's length, beginning and end, which detects another file."""
    with path.open("rb") as file:
        head = file.read(size)
        length = file.seek(0, 2)
        file.seek(max(0, length - size))
        return hashlib.sha256(b"%d" % length + head + file.read()).digest()
