"""Common base of the trainers: TRL's trainers with tokenised rows and atomic checkpoints.

TRL and the transformers Trainer provide the loop, the schedule, PEFT, QLoRA and resuming. Rows are tokenised already:
the dataset only says which groups form a micro-batch, and `PackedCollator` packs them. The loss of a method is a few
lines on top of `completion_logps`; see the other modules of this package.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from synth_dspy.training.checkpoints import publish_checkpoint
from synth_dspy.training.sequences import Group, completion_logps, pack


@dataclass(frozen=True, slots=True)
class PackedCollator:
    """Makes a micro-batch from dataset rows: the packed groups, and each group's values as tensors.

    Attributes:
        groups: All groups; a dataset row refers to some by index.
        values: Further inputs with one entry per group: reference log-probabilities, labels.
    """

    groups: Sequence[Group]
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        chosen = [index for feature in features for index in feature["groups"]]
        values = {name: torch.tensor([each[index] for index in chosen]) for name, each in self.values.items()}
        return {"packed": pack([self.groups[index] for index in chosen]), **values}


class LeanTrainer(Trainer):
    """A mixin, to precede a TRL trainer in a class's bases."""

    tokens = 0
    """Number of tokens that the model has read in training."""
    seconds = 0.0
    """Training time before this process resumed from a checkpoint."""

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any) -> Any:
        if resume_from_checkpoint is not None:
            from transformers import TrainerState

            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / "trainer_state.json"))
            last: Mapping[str, float] = next((entry for entry in reversed(state.log_history) if "tokens" in entry), {})
            self.tokens, self.seconds = int(last.get("tokens", 0)), float(last.get("seconds", 0.0))
        self._notes: dict[str, list[float]] = {}
        self._dev_notes: dict[str, list[float]] = {}
        self._began = time.perf_counter()
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the progress to every entry of the history, from which a resumed training continues."""
        if "loss" in logs:
            logs |= _means(self._notes)
        if "eval_loss" in logs:
            logs |= {f"eval_{name}": value for name, value in _means(self._dev_notes).items()}
        logs["tokens"] = self.tokens
        logs["seconds"] = self.seconds + time.perf_counter() - self._began
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, None, None]:
        """The loss of a micro-batch of dev rows."""
        with torch.no_grad():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def _packed(self, inputs: Mapping[str, Any]) -> Any:
        """The micro-batch on the model's device, its tokens counted."""
        packed = inputs["packed"].to(self.args.device)
        if self.model.training:
            self.tokens += packed.input_ids.numel()
        return packed

    def _gains(self, model: Any, inputs: Mapping[str, Any]) -> Any:
        """Log-probability ratios of both completions of each group to the reference model, shape (n, 2)."""
        packed = self._packed(inputs)
        with self.accelerator.autocast():
            logps = completion_logps(model, packed).view(-1, 2)
        return logps - inputs["reference"]

    def _averaged(self, losses: Any) -> Any:
        """The loss of a micro-batch from those of its groups, (n,): each counts the same, however they are packed."""
        dataset = self.train_dataset if self.model.training else self.eval_dataset
        return losses.sum() / (sum(map(len, dataset["groups"])) / len(dataset))

    def _note(self, **values: float) -> None:
        """Record values, whose means go into the next entry of the history: of the training, or of an evaluation."""
        notes = self._notes if self.model.training else self._dev_notes
        for name, value in values.items():
            notes.setdefault(name, []).append(value)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        place = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        staging = Path(self.args.output_dir) / "writing"
        self.args.output_dir = str(staging)
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(place.parent)
        publish_checkpoint(staging / place.name, place)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # The adapter or the weights alone: no tokeniser, no pickled arguments.
        adapter = {"save_embedding_layers": False} if hasattr(self.model, "peft_config") else {}
        self.model.save_pretrained(output_dir, **adapter)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints need no model card."""

    def _send_telemetry(self) -> None:
        """No telemetry."""


def _means(notes: dict[str, list[float]]) -> dict[str, float]:
    """The means of the values, which are then forgotten."""
    means = {name: sum(values) / len(values) for name, values in notes.items()}
    notes.clear()
    return means
