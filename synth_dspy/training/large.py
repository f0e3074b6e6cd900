"""Settings of LoRA for a large model on a GPU, by method and number of rows.

What decides is the number of optimizer steps: 10 pairs in batches of 16 are a single step at a warming-up learning
rate. So small sets get small batches and several epochs, and a step has 16 rows only from about a thousand rows on.
Learning rates are ten times those of full fine-tuning, at any batch size below a few hundred: Schulman et al., "LoRA
Without Regret", thinkingmachines.ai, 2025. None of it has been tuned on Llama 3 8B here.
"""

from __future__ import annotations

from typing import Any

from synth_dspy.training.spec import ONLINE, Method

EXAMPLES = 5000
"""Training examples to trace, and rows to make of them, where a recipe for few cores stops at some dozens."""
LORA_RATE = 10
"""How many times the learning rate of all weights LoRA's is, see above."""
STEPS = 60
"""Steps to make at least, as far as rows in three epochs go."""
BATCH = 16
_EPOCHS = ((500, 3), (3000, 2))  # up to so many rows, so many epochs; else one
_RATES: dict[Method, float] = {
    "sft": 2e-4,
    "dpo": 2e-5,
    "orpo": 5e-5,
    "kto": 2e-5,
    "grpo": 2e-5,
    "rloo": 2e-5,
    "online_dpo": 2e-5,
    "cpt": 2e-4,
}


def gpu_settings(method: Method, rows: int) -> dict[str, Any]:
    """`TrainSpec` fields for so many rows. What saves memory is left to the machine, see `savers.py`."""
    epochs = next((epochs for most, epochs in _EPOCHS if rows <= most), 1)
    batch = max(1, min(BATCH, rows * epochs // STEPS))
    steps = rows * epochs // batch
    return {
        "learning_rate": _RATES[method],
        "epochs": 1 if method in ONLINE else epochs,
        "batch": batch,
        "warmup_steps": min(20, steps // 10),
        "save_steps": 50,
        "packing": method in ("sft", "dpo", "orpo"),
        "quantize": "auto",
        "gradient_checkpointing": "auto",
        "optimizer": "auto",
    }
