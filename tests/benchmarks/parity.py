"""Does the parity check pass right merges and fail wrong ones, however few the prompts?

    python tests/benchmarks/parity.py runs/contract_qa/<id>/adapters/* [--prompts 4 8 32]

For every finished training: its adapter merged as it is; with a scale 10 % too large and too small; with the gate and
up projections of one layer, and of all layers, in each other's place; and with another chat template. Each merged file
is checked as a training checks its own. Prints how many of each kind passed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import ArmError
from synth_dspy.models.weights.gguf import open_gguf, rewrite
from synth_dspy.models.weights.trained import SPEC
from synth_dspy.training.base import load_base
from synth_dspy.training.data import read_prompts
from synth_dspy.training.merge import merge
from synth_dspy.training.parity import check_parity, explain_failure
from synth_dspy.training.spec import ADAPTER, PROMPTS, TrainSpec, read_spec

FAULTS = ("right", "scale 1.1", "scale 0.9", "one layer swapped", "all layers swapped", "another template")
TEMPLATE = "tokenizer.chat_template"


def merged(fault: str, spec: TrainSpec, adapter: Path, scratch: Path) -> Path:
    """The merged file of a training with a fault."""
    target, own = scratch / "model.gguf", scratch / "adapter"
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(adapter, own)
    if fault.startswith("scale"):
        config = json.loads((own / "adapter_config.json").read_text())
        config["lora_alpha"] *= float(fault.split()[1])
        (own / "adapter_config.json").write_text(json.dumps(config))
    elif fault.endswith("swapped"):
        _swap(own / "adapter_model.safetensors", every=fault.startswith("all"))
    merge(spec.model, [*spec.adapters, own], target, "Q8_0" if spec.gguf == "Q8_0" else "F16")
    if fault == "another template":
        reader = open_gguf(target)
        template = str(reader.fields[TEMPLATE].contents()).replace("<|im_start|>", "<|im_start|> ")
        rewrite(reader, scratch / "other.gguf", lambda tensor: None, {TEMPLATE: template})
        return scratch / "other.gguf"
    return target


def _swap(path: Path, *, every: bool) -> None:
    """Put the gate's matrices in the up projection's place and the other way round."""
    from safetensors.numpy import load_file, save_file

    matrices = load_file(path)
    layers = sorted({int(re.search(r"layers\.(\d+)\.", name)[1]) for name in matrices})  # type: ignore[index]
    chosen = layers if every else [layers[len(layers) // 2]]
    other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}

    def renamed(name: str) -> str:
        if not any(f"layers.{layer}." in name for layer in chosen):
            return name
        return re.sub("gate_proj|up_proj", lambda match: other[match[0]], name)

    save_file({renamed(name): values for name, values in matrices.items()}, path)


def trained(spec: TrainSpec, folder: Path) -> tuple[Any, Any]:
    """The trained model, its adapter on it, and the tokeniser."""
    from peft import PeftModel

    model, tokenizer = load_base(spec.model, adapters=spec.adapters)
    return PeftModel.from_pretrained(model, folder / ADAPTER).eval(), tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainings", nargs="+", type=Path)
    parser.add_argument("--prompts", nargs="+", type=int, default=[4, 8, 32])
    options = parser.parse_args()
    passed: Counter[tuple[str, int]] = Counter()
    for folder in options.trainings:
        spec = read_spec(folder / SPEC)
        prompts = [*(read_prompts(spec.prompts) if spec.prompts else []), *read_prompts(spec.rows)][:PROMPTS]
        for fault in FAULTS:
            with tempfile.TemporaryDirectory() as scratch:
                served = merged(fault, spec, folder / ADAPTER, Path(scratch))
                for count in options.prompts:
                    model, tokenizer = trained(spec, folder)
                    began = time.perf_counter()
                    try:
                        parity = check_parity(model, tokenizer, served, prompts[:count])
                        failure = explain_failure(parity, spec)
                        figures = f"{parity.agreed} of {parity.tokens} tokens, difference {parity.difference:.4f}"
                    except ArmError as error:
                        failure, figures = str(error), ""
                    passed[fault, count] += failure is None
                    print(f"{folder.name} {fault}, {count} prompts: {failure or 'passed'} {figures} "
                          f"({time.perf_counter() - began:.1f} s)", flush=True)  # fmt: skip
    print(f"\n{len(options.trainings)} trainings; passed with {' / '.join(map(str, options.prompts))} prompts:")
    for fault in FAULTS:
        print(f"  {fault:20} {' / '.join(str(passed[fault, count]) for count in options.prompts)}")


if __name__ == "__main__":
    main()
