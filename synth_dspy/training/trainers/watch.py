"""A callback that reports the progress of a training, and stops it if the loss is not finite or no longer falls."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from synth_dspy.training.checkpoints import Best, read_best, save_best
from synth_dspy.training.events import Emit
from synth_dspy.training.failures import TrainingError
from synth_dspy.training.full import trained_weights

SAVE_S = 60.0
"""Seconds after which an adapter has a new checkpoint, however few its steps are."""


class Watch(TrainerCallback):
    """Emits progress, saves the best weights and checkpoints that are due, and decides on early stopping.

    Args:
        trainer: the trainer, for its model and token count.
        emit: called after every step.
        method: the training method, for messages.
        folder: folder for the best weights.
        patience: evaluations without a better loss before training stops; 0: no early stopping.
        save_s: seconds after which a checkpoint is due; None: only every `save_steps`, as for all weights, whose
            checkpoints are large.
    """

    def __init__(
        self,
        trainer: Any,
        emit: Emit,
        *,
        method: str,
        folder: Path,
        patience: int,
        save_s: float | None = None,
    ) -> None:
        self.trainer = trainer
        self.method = method
        self.emit = emit
        self.folder = folder
        self.patience = patience
        self.save_s = save_s
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """After every optimizer step: a checkpoint is saved where the last one is too old."""
        if self.save_s is not None and time.monotonic() - self._saved >= self.save_s:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """After a checkpoint was saved."""
        self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """After every optimizer step."""
        if "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise TrainingError(
                    f"At step {state.global_step} the {name.replace('grad_norm', 'gradient')} is {logs[name]}: lower "
                    f"training.options.{self.method}.learning_rate (now {args.learning_rate:g}).",
                    "loss",
                )
        step, seconds = state.global_step, logs["seconds"]
        per_step = seconds / step
        self.emit(
            {
                "event": "progress",
                "step": step,
                "steps": state.max_steps,
                "loss": round(logs["loss"], 5),
                "tokens_per_second": round(logs["tokens"] / seconds, 1),
                "remaining_s": round((state.max_steps - step) * per_step, 1),
            }
        )

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **rest: Any) -> None:
        """After every evaluation on the dev rows."""
        # By the loss, not by reward accuracy: with few pairs that is 1 long before the answers change.
        loss, step = metrics["eval_loss"], state.global_step
        best = read_best(self.folder)
        if best is None or loss < best.loss:
            weights = trained_weights(self.trainer.model)
            accuracy = next((entry.get("eval_accuracy") for entry in reversed(state.log_history)), None)
            save_best(self.folder, weights, Best(loss, step, accuracy))
        elif self.patience and step - best.step >= self.patience * args.eval_steps:
            control.should_training_stop = True
