"""The weights that a saved program runs on, as a folder that any server of Hugging Face models loads."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.models.weights.cache import publish
from synth_dspy.pipeline.saved_files import Saved
from synth_dspy.training.base import base_folder, load_base
from synth_dspy.training.full import model_of
from synth_dspy.training.provider import PREFIX

FILES = ("tokenizer.json", "tokenizer.model", "special_tokens_map.json", "generation_config.json")


def export_weights(saved: Saved, target: Path) -> Path:
    """Write the merged weights (safetensors), the configuration and the tokeniser of a program's student.

    What is written is what was scored: of a merged GGUF file its values, rounding included, as float16.

    Args:
        saved: the program.
        target: the folder to write.

    Raises:
        SetupError: its student has no weights here, or they cannot be converted.
    """
    model = saved.config.models.student
    if "weights" in saved.about:
        weights = (saved.run / str(saved.about["weights"])).resolve()
        if not weights.exists():
            raise SetupError(f"The tuned weights {weights} are missing: copy the run's folder whole.")
        if weights.is_dir():
            return _export_adapter(weights.parent, target)
        source = base_folder(weights)
    elif model.startswith(PREFIX):
        source = base_folder(model.removeprefix(PREFIX))
    else:
        raise SetupError(f"The student of {saved.folder} is {model}, which is hosted: it has no weights to deploy.")
    with publish(target) as part:
        part.mkdir(parents=True)
        for path in [*sorted(source.glob("*.safetensors*")), *(source / name for name in FILES)]:
            if path.is_file():
                _link(path, part / path.name)
        _write_for_servers(source, part)
    return target


def _export_adapter(training: Path, target: Path) -> Path:
    """Merge the adapters of a training whose model vLLM serves unmerged."""
    base, adapters = model_of(training)
    model, tokenizer = load_base(base, precision="bf16", adapters=adapters)
    with publish(target) as part:
        part.mkdir(parents=True)
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        _write_for_servers(part, part)
    return target


def _write_for_servers(source: Path, target: Path) -> None:
    """Write the configuration so that readers of transformers 4 and 5 understand it alike.

    A reader of version 4 does not know `rope_parameters`, and would silently take another base for the rotary
    embeddings; nor does it read the chat template from a file of its own in all versions.
    """
    config = _read(source / "config.json")
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
    if rope.get("rope_type", "default") != "default":
        config.setdefault("rope_scaling", {key: value for key, value in rope.items() if key != "rope_theta"})
    config.setdefault("torch_dtype", config.get("dtype") or "float16")
    tokenizer = _read(source / "tokenizer_config.json") if (source / "tokenizer_config.json").is_file() else {}
    if tokenizer.get("tokenizer_class") in (None, "TokenizersBackend"):
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    template = source / "chat_template.jinja"
    if template.is_file():
        tokenizer["chat_template"] = template.read_text(encoding="utf-8")
    for name, value in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        (target / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def digest(folder: Path) -> str:
    """A hash of a folder's files: 12 hexadecimal digits."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            whole.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()[:12]


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it to another file system."""
    try:
        target.hardlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
