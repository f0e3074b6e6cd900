"""How fast LoRA SFT of the embedded model is on this machine's CPU: this project's runner against TRL's defaults.

    python tests/benchmarks/training.py [--rows 32] [--epochs 1]

Both learn the same token rows (made from data/contracts: a passage, a question, the answer; 150 to 500 tokens), in the
same order, eight rows a step, with the same LoRA (rank 16, all linear layers), learning rate and seed, each in a
process of its own, one after the other. TRL runs as `SFTConfig()` sets it: 8 rows padded to the longest, gradient
checkpointing, bf16 autocast. What it is told besides: `use_cpu` (without it bf16 is refused on a machine without a
GPU), the learning rate, the epochs, to log every step, and to save and report nothing; once more with `bf16=False`,
for CPUs that do not multiply in bf16. Tokens a second count the rows' own tokens, not the padding, and the training
loop alone; peak memory is the whole process's.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODEL = "smollm2-135m-instruct"
BATCH, SEED, RATE = 8, 42, 1e-3
SHORTEST, LONGEST = 150, 500
CONTENDERS = {
    "ours": "this runner",
    "trl": "TRL's defaults",
    "trl-fp32": "TRL's defaults, fp32",
}


def rows(count: int) -> list[dict[str, Any]]:
    """Questions about the sample contracts, each with a passage around its answer, as chat rows."""
    rng = random.Random(SEED)
    lines = (ROOT / "data" / "contracts" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    made = []
    for question in rng.sample([json.loads(line) for line in lines], len(lines)):
        document = next((ROOT / "data" / "contracts" / "documents").glob(f"{question['document']}.*"))
        words = document.read_text(encoding="utf-8").split()
        width = rng.randint(80, 270)
        start = rng.randrange(max(1, len(words) - width))
        passage = " ".join(words[start : start + width])
        said = f"Passage:\n{passage}\n\nQuestion: {question['question']}\nAnswer from the passage, briefly."
        reply = question["references"][0] if question["references"] else "The passage does not say."
        made.append(
            {"prompt": [{"role": "user", "content": said}], "completion": [{"role": "assistant", "content": reply}]}
        )
    from synth_dspy.training.base import load_tokenizer
    from synth_dspy.training.data import tokenize

    tokenizer = load_tokenizer(MODEL)
    fitting = [
        row
        for row in made[: 4 * count]
        if SHORTEST <= tokenize([row], "sft", tokenizer, max_tokens=10_000).groups[0].tokens <= LONGEST
    ]
    return fitting[:count]


def ours(path: Path, epochs: float, out: Path) -> dict[str, Any]:
    """Our runner, as `python -m synth_dspy.train` builds it."""
    from synth_dspy.core.waiting import set_wait_policy

    set_wait_policy()  # as the verb does, before torch is there
    from synth_dspy.training.base import load_base
    from synth_dspy.training.data import read_rows, tokenize
    from synth_dspy.training.runner import uses_bf16
    from synth_dspy.training.spec import TrainSpec
    from synth_dspy.training.trainers import build

    spec = TrainSpec(
        method="sft",
        model=MODEL,
        rows=path,
        batch=BATCH,
        seed=SEED,
        learning_rate=RATE,
        epochs=epochs,
        warmup_steps=0,
        save_steps=10_000,
    )
    model, tokenizer = load_base(MODEL)
    train = tokenize(read_rows(path, "sft"), "sft", tokenizer, max_tokens=spec.max_tokens)
    trainer = build(spec, model, tokenizer, train, None, folder=out, bf16=uses_bf16(spec))
    trainer._save_checkpoint = lambda *_: None  # the last step's; TRL is told to save nothing either
    return _timed(trainer, sum(group.tokens for group in train.groups) * epochs)


def trl(path: Path, epochs: float, out: Path, **extra: Any) -> dict[str, Any]:
    """TRL's SFTTrainer on the same tokens."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from synth_dspy.training.base import load_base
    from synth_dspy.training.data import read_rows, tokenize

    model, tokenizer = load_base(MODEL)
    groups = tokenize(read_rows(path, "sft"), "sft", tokenizer, max_tokens=2048).groups
    data = [
        {
            "input_ids": [*group.prompt, *group.completions[0]],
            "completion_mask": [0] * len(group.prompt) + [1] * len(group.completions[0]),
        }
        for group in groups
    ]
    arguments = SFTConfig(
        output_dir=str(out),
        use_cpu=True,
        learning_rate=RATE,
        num_train_epochs=epochs,
        completion_only_loss=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=SEED,
        data_seed=SEED,
        **extra,
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM"),
    )
    return _timed(trainer, sum(group.tokens for group in groups) * epochs)


def _timed(trainer: Any, tokens: float) -> dict[str, Any]:
    import torch

    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    seconds, worked = time.perf_counter() - wall, time.process_time() - cpu
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "seconds": seconds,
        "cpu_seconds": worked,
        "tokens": tokens,
        "losses": losses,
        "threads": torch.get_num_threads(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Run the contenders, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--only", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.only:
            extra = {"bf16": False} if options.only == "trl-fp32" else {}
            run = ours if options.only == "ours" else trl
            print(json.dumps(run(options.file, options.epochs, Path(scratch), **extra)))
            return
        path = Path(scratch) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(options.rows)), encoding="utf-8")
        results = {name: _child(name, path, options.epochs) for name in options.contenders}
    first = next(iter(results.values()))
    print(f"{first['tokens']:.0f} tokens, {len(first['losses'])} steps of {BATCH} rows, {first['threads']} threads\n")
    print(f"{'':24} {'tokens/s':>9} {'CPU s':>7} {'peak MB':>8} {'loss':>16}   speed of ours")
    for name, each in results.items():
        ratio = each["seconds"] / results["ours"]["seconds"] if "ours" in results else float("nan")
        losses = f"{each['losses'][0]:.4f} > {each['losses'][-1]:.4f}"
        print(
            f"{CONTENDERS[name]:24} {each['tokens'] / each['seconds']:9.0f} {each['cpu_seconds']:7.1f} "
            f"{each['peak_mb']:8.0f} {losses:>16}   {ratio:.2f}"
        )
    if "ours" in results:
        last = results["ours"]["losses"][-1]
        worst = max(abs(each["losses"][-1] / last - 1) for each in results.values())
        print(f"\nfinal losses differ by at most {worst:.2%}")


def _child(name: str, path: Path, epochs: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--file", str(path), "--epochs", str(epochs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
