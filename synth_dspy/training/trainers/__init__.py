"""One trainer per method; `build` makes it from a spec."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synth_dspy.training.data import TokenRows, bins, fill_steps
from synth_dspy.training.sequences import Group
from synth_dspy.training.spec import ONLINE, TrainSpec

if TYPE_CHECKING:
    from synth_dspy.training.trainers.grpo import Reward

PACKED = ("sft", "dpo", "orpo")
"""Methods whose micro-batches may hold several rows."""
WITH_REFERENCE = ("dpo", "kto")
"""Methods with a reference model, the model before training."""
_WARM_UP = 10
"""The warm-up is at most one in this many steps."""


def build(
    spec: TrainSpec,
    model: Any,
    tokenizer: Any,
    train: TokenRows,
    dev: TokenRows | None,
    *,
    folder: Path,
    bf16: bool,
    reward: Reward | None = None,
) -> Any:
    """Build the trainer of a spec's method, with a new adapter.

    Args:
        spec: what to train.
        model: the base with earlier adapters merged, which is also the reference model.
        tokenizer: the base's tokeniser.
        train: training rows.
        dev: dev rows, for early stopping.
        folder: the folder for checkpoints and cached reference log-probabilities.
        bf16: whether to compute in bfloat16.
        reward: the reward of a sampled reply, for grpo, rloo and online_dpo.
    """
    if spec.method in ONLINE:
        assert reward is not None
        return _online(spec, model, tokenizer, train, folder, bf16, reward)
    if spec.method in ("sft", "cpt"):
        from trl import SFTConfig as Config

        from synth_dspy.training.trainers.sft import Sft as Trainer
    elif spec.method == "dpo":
        from trl import DPOConfig as Config

        from synth_dspy.training.trainers.dpo import Dpo as Trainer
    elif spec.method == "orpo":
        from trl.experimental.orpo import ORPOConfig as Config

        from synth_dspy.training.trainers.orpo import Orpo as Trainer
    else:
        from trl import KTOConfig as Config

        from synth_dspy.training.trainers.kto import Kto as Trainer
    from synth_dspy.training.trainers.common import PackedCollator

    rows = TokenRows((*train.rows, *(dev.rows if dev else ())), (*train.groups, *(dev.groups if dev else ())))
    groups: Sequence[Group] = rows.groups
    values: dict[str, Sequence[Any]] = {}
    if spec.method == "kto":
        from synth_dspy.training.trainers.kto import label_weights, with_mismatched

        groups = [*with_mismatched(train.groups), *(with_mismatched(dev.groups) if dev else ())]
        values["label"] = [row["label"] for row in rows.rows]
        values["weight"] = [
            weight for part in (train, dev) if part for weight in label_weights([row["label"] for row in part.rows])
        ]
    if spec.method in WITH_REFERENCE:
        values["reference"] = reference_logps(
            model,
            groups,
            bf16=bf16,
            store=folder / "reference.json",
            most=(spec.micro_tokens or spec.max_tokens) if spec.packing else 0,
        )
    model.requires_grad_(spec.full)  # PEFT sets those of an adapter
    own = range(len(train.groups))
    batches = micro_batches(spec, train.groups)
    extra: dict[str, Any] = {} if spec.method in ("sft", "cpt") else {"beta": spec.beta}
    if spec.full and spec.method == "dpo":
        extra["precompute_ref_log_probs"] = True  # no second model: `reference` has them
    micro = 1
    if spec.method == "kto":
        micro, extra["train_sampling_strategy"] = 2, "sequential"
    # With packing, a step has as many sequences as hold about `batch` rows.
    accumulate = max(1, round(spec.batch * len(batches) / len(own) / micro))
    steps = math.ceil(math.ceil(len(batches) / (micro * accumulate)) * spec.epochs)
    arguments = Config(**_arguments(spec, folder, bf16, micro, accumulate, steps, dev is not None), **extra)
    return Trainer(
        model=model,
        args=arguments,
        data_collator=PackedCollator(groups, values),
        train_dataset=_dataset(batches),
        eval_dataset=_dataset([(i,) for i in range(len(own), len(groups))]) if dev else None,
        processing_class=tokenizer,
        peft_config=lora_config(spec, model),
    )


def micro_batches(spec: TrainSpec, groups: Sequence[Group]) -> list[tuple[int, ...]]:
    """The groups of each micro-batch, by index."""
    if spec.packing and spec.method in PACKED:
        return bins(groups, spec.micro_tokens or spec.max_tokens)
    return [(index,) for index in range(len(groups))]


def reference_logps(
    model: Any, groups: Sequence[Group], *, bf16: bool, store: Path, most: int = 0
) -> list[list[float]]:
    """Log-probability of every completion under the reference model, cached in a file.

    Args:
        model: the model without its adapter.
        groups: the groups.
        bf16: whether to compute in bfloat16.
        store: the file.
        most: tokens to read at once; a single group may be longer.
    """
    import torch

    from synth_dspy.training.checkpoints import write_json
    from synth_dspy.training.sequences import completion_logps, pack

    if store.is_file():
        kept: list[list[float]] = json.loads(store.read_text(encoding="utf-8"))
        return kept
    model.eval()
    logps: list[list[float]] = [[] for _ in groups]
    with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for batch in bins(groups, most) if most else [(index,) for index in range(len(groups))]:
            chosen = [groups[index] for index in batch]
            values = completion_logps(model, pack(chosen).to(model.device)).tolist()
            for index, group in zip(batch, chosen, strict=True):
                logps[index], values = values[: len(group.completions)], values[len(group.completions) :]
    write_json(store, logps)
    return logps


def _online(
    spec: TrainSpec, model: Any, tokenizer: Any, train: TokenRows, folder: Path, bf16: bool, reward: Reward
) -> Any:
    from datasets import Dataset

    from synth_dspy.training.trainers.grpo import scored_by

    longest = spec.completion_tokens
    own: dict[str, Any] = {"num_generations": spec.generations, "max_completion_length": longest}
    micro = spec.generations  # a prompt's samples
    if spec.method == "grpo":
        from trl import GRPOConfig as Config

        from synth_dspy.training.trainers.grpo import Grpo as Trainer
    elif spec.method == "rloo":
        from trl import RLOOConfig as Config

        from synth_dspy.training.trainers.grpo import Rloo as Trainer
    else:
        from trl.experimental.online_dpo import OnlineDPOConfig as Config

        from synth_dspy.training.trainers.online_dpo import OnlineDpo as Trainer

        own = {"max_new_tokens": longest, "max_length": spec.max_tokens + longest}
        micro = 1  # prompt, with its samples
    rows = [
        {"prompt": row["prompt"], "row": json.dumps(row, ensure_ascii=False)}
        for row in fill_steps(train.rows, spec.batch)
    ]
    steps = math.ceil(len(rows) / spec.batch * spec.epochs)
    arguments = Config(**_arguments(spec, folder, bf16, micro, spec.batch, steps, False), beta=spec.beta, **own)
    return Trainer(
        model=model,
        reward_funcs=scored_by(reward),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora_config(spec, model),
    )


def _arguments(
    spec: TrainSpec, folder: Path, bf16: bool, micro: int, accumulate: int, steps: int, dev: bool
) -> dict[str, Any]:
    """Training arguments common to all methods."""
    import torch

    own: dict[str, Any] = {} if spec.method in ONLINE else {"max_length": None}
    return own | {
        "output_dir": str(folder),
        "per_device_train_batch_size": micro,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": accumulate,
        "num_train_epochs": spec.epochs,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": "linear",
        # The first warm-up step has a learning rate of 0, which would be all of a one-step training.
        "warmup_steps": min(spec.warmup_steps, steps // _WARM_UP),
        "optim": "adamw_bnb_8bit" if spec.optimizer == "adamw_8bit" else "adamw_torch",
        "bf16": bf16,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": spec.gradient_checkpointing is True,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "save_strategy": "steps",
        "save_steps": spec.save_steps,
        "eval_strategy": "steps" if dev else "no",
        "eval_steps": spec.eval_steps if dev else None,
        "prediction_loss_only": True,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be reported
        "disable_tqdm": True,
        "report_to": "none",
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
    }


def _dataset(batches: Sequence[tuple[int, ...]]) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"groups": [list(batch) for batch in batches]})


def _targets(spec: TrainSpec, model: Any) -> list[str] | str:
    """The projections that get an adapter; every linear layer where the model's are named otherwise (Phi)."""
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    default = type(spec.lora)().targets
    return "all-linear" if spec.lora.targets == default and not names.issuperset(default) else list(spec.lora.targets)


def lora_config(spec: TrainSpec, model: Any) -> Any:
    """PEFT's configuration of a spec's adapter; None to train all weights."""
    from peft import LoraConfig

    if spec.full:
        return None

    last = model.config.num_hidden_layers
    return LoraConfig(
        r=spec.lora.rank,
        lora_alpha=spec.lora.alpha,
        lora_dropout=spec.lora.dropout,
        target_modules=_targets(spec, model),
        layers_to_transform=None if spec.lora.layers is None else list(range(max(0, last - spec.lora.layers), last)),
        use_dora=spec.lora.dora,
        use_rslora=spec.lora.rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
