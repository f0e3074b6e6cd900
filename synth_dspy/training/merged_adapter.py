"""Merging several adapters of one base into one, through PEFT, and what an adapter's rows were.

Linear: the weighted sum of the factors A and B. TIES: small values are trimmed, signs elected, agreeing values averaged
(Yadav et al., "TIES-Merging", arXiv:2306.01708). DARE: values are dropped at random and the others rescaled first (Yu
et al., "Language Models are Super Mario", arXiv:2311.03099).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.models.weights.cache import publish
from synth_dspy.models.weights.trained import SPEC, WHOLE
from synth_dspy.training.adapters import BASE, CONFIG, WEIGHTS, modules, plain_modules, read_adapter_config
from synth_dspy.training.spec import ADAPTER, read_spec

How = Literal["linear", "ties", "dare_linear", "dare_ties"]
SOURCES = "sources.json"
"""In a merged adapter's folder: what it was made of, and the examples that its parts were trained on."""


def merge_adapters(
    trainings: Sequence[Path],
    target: Path,
    how: How = "linear",
    *,
    weights: Sequence[float] = (),
    density: float = 0.5,
    seed: int = 0,
) -> Path:
    """Merge the adapters of several trainings into one PEFT adapter.

    Args:
        trainings: folders of finished trainings; a training on top of others counts with those it started from.
        target: the folder to write.
        how: the method.
        weights: of each training; by default equal, with the sum 1.
        density: share of values that TIES and DARE keep.
        seed: of DARE's choice.

    Raises:
        SetupError: fewer than two, another number of weights, other bases, or other modules.
    """
    import torch
    from peft import PeftModel

    from synth_dspy.training.base import load_base
    from synth_dspy.training.provider import trained_sources
    from synth_dspy.training.unmerged import concatenate_adapters

    if how not in get_args(How):
        raise SetupError(f"There is no method {how!r} of merging; there are {', '.join(get_args(How))}.")
    if len(trainings) < 2:
        raise SetupError("Only several adapters can be merged: name two or more, RUN:ARM RUN:ARM.")
    weights = tuple(weights) or (1 / len(trainings),) * len(trainings)
    if len(weights) != len(trainings):
        raise SetupError(f"There are {len(weights)} weights for {len(trainings)} adapters: give one for each.")
    specs = [read_spec(training / SPEC) for training in trainings]
    if full := next((folder for spec, folder in zip(specs, trainings, strict=True) if spec.full), None):
        raise SetupError(f"{full.name} trained all weights: only adapters of one base can be merged.")
    chains = [[*spec.adapters, folder / ADAPTER] for spec, folder in zip(specs, trainings, strict=True)]
    if marked := next((spec.call_token for spec in specs if spec.call_token is not None), None):
        raise SetupError(f"These adapters were trained with the marker {marked!r}, which a merged one would lack.")
    _check_alike(trainings, [chain[-1] for chain in chains])
    with publish(target) as part:
        part.mkdir(parents=True)
        try:
            whole = [
                concatenate_adapters(chain, part / f"chain{number}") for number, chain in enumerate(chains, start=1)
            ]
            rank = max(len(a) for adapter in whole for a, _ in modules(adapter).values())
            same = [_with_rank(adapter, rank, part / f"part{number}") for number, adapter in enumerate(whole, start=1)]
        except ArmError as error:
            raise SetupError(str(error)) from error
        base, _ = load_base(specs[0].model, precision="bf16")
        names = [f"part{number}" for number in range(1, len(same) + 1)]
        model = PeftModel.from_pretrained(base, same[0], adapter_name=names[0])
        for name, adapter in zip(names[1:], same[1:], strict=True):
            model.load_adapter(adapter, name)
        torch.manual_seed(seed)
        kept = {} if how == "linear" else {"density": density}
        model.add_weighted_adapter(names, list(weights), "merged", combination_type=how, **kept)
        model.save_pretrained(part / "out", selected_adapters=["merged"], save_embedding_layers=False)
        for file in (CONFIG, WEIGHTS):
            (part / "out" / "merged" / file).replace(part / file)
        _remove(part, keep=(CONFIG, WEIGHTS))
        if (record := chains[0][-1] / BASE).is_file():
            (part / BASE).write_bytes(record.read_bytes())
        rows = sorted(set().union(*(trained_sources(training) for training in _all(trainings))))
        made = {"how": how, "weights": list(weights), "adapters": [each.name for each in trainings], "rows": rows}
        (part / SOURCES).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    return target


def learned_ids(folder: Path) -> frozenset[str] | None:
    """Ids of the examples that an adapter was trained on; None where that is not recorded.

    Args:
        folder: a merged adapter, a training made here, or the adapter in one.
    """
    from synth_dspy.training.provider import trained_sources

    if (folder / SOURCES).is_file():
        return frozenset(map(str, read_json_object(folder / SOURCES).get("rows") or ()))
    training = folder if (folder / SPEC).is_file() else folder.parent
    if not (training / SPEC).is_file():
        return None
    return frozenset().union(*(trained_sources(each) for each in _all([training])))


def _all(trainings: Sequence[Path]) -> list[Path]:
    """Trainings, with those that they started from."""
    specs = [read_spec(training / SPEC) for training in trainings]
    chained = [adapter.parent for spec in specs for adapter in spec.adapters]
    bases = [Path(spec.model).parent for spec in specs if Path(spec.model).name == WHOLE]
    return [*trainings, *chained, *(_all([base for base in bases if (base / SPEC).is_file()]) if bases else ())]


def _check_alike(trainings: Sequence[Path], adapters: Sequence[Path]) -> None:
    """Refuse adapters of different bases, or that change different modules."""
    first, changed = adapters[0], None
    for training, adapter in zip(trainings, adapters, strict=True):
        ids = [read_json_object(each / BASE).get("fingerprint") for each in (first, adapter)]
        if ids[0] != ids[1]:
            raise SetupError(f"{trainings[0].name} and {training.name} were trained on different bases: merge one's.")
        if changed is None:
            changed = set(modules(adapter))
        elif set(modules(adapter)) != changed:
            raise SetupError(
                f"{trainings[0].name} and {training.name} change different modules of their base: train both with the "
                "same lora.targets and lora.layers."
            )


def _with_rank(adapter: Path, rank: int, target: Path) -> Path:
    """The same change of the base as an adapter of a higher rank, its scale in B: PEFT merges equal ranks only."""
    import numpy as np
    from safetensors.numpy import save_file

    from synth_dspy.training.adapters import scaling

    config, tensors = read_adapter_config(adapter), {}
    for module, (a, b) in plain_modules(adapter).items():
        missing = rank - len(a)
        scaled = (b * scaling(config, module, len(a))).astype(np.float32)
        tensors[f"base_model.model.{module}.lora_A.weight"] = np.pad(a, ((0, missing), (0, 0))).astype(np.float32)
        tensors[f"base_model.model.{module}.lora_B.weight"] = np.pad(scaled, ((0, 0), (0, missing)))
    plain = {"r": rank, "lora_alpha": rank, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
    target.mkdir()
    save_file(tensors, target / WEIGHTS)
    (target / CONFIG).write_text(json.dumps(config | plain) + "\n", encoding="utf-8")
    return target


def _remove(folder: Path, keep: Sequence[str]) -> None:
    import shutil

    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
