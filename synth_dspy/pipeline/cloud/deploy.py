"""Deploys the model of a saved program, and puts it back into the same program, to be scored again.

    runs/<task>/<id>/programs/sft            the program with its tuned weights
    runs/<task>/<id>/programs/sft-bedrock    the same program, whose student is the deployed model

A backend brings a folder of weights to life on other machines; all else is the same for every backend.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from synth_dspy.core import aws, signing
from synth_dspy.core.aws_record import Made, record
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.s3.address import require_address
from synth_dspy.core.s3.objects import addresses_in, upload_file
from synth_dspy.domains.documents.steps import is_capable
from synth_dspy.pipeline.cloud.weights import digest, export_weights
from synth_dspy.pipeline.resources import EMBEDDED_OPTIONS
from synth_dspy.pipeline.saved_files import ABOUT, PROGRAM, Saved, read_saved
from synth_dspy.pipeline.trust import NAMES, SAMPLING, Caller

Say = Callable[[str], None]
_NAME_LENGTH = 36
"""A job's name, with a digest and a time after it, has at most 63 characters."""


@dataclass(frozen=True, slots=True)
class Upload:
    """Weights on S3.

    Attributes:
        name: of the model, unique for its weights.
        uri: `s3://bucket/folder/`.
        architecture: as in config.json, such as "LlamaForCausalLM".
        run: the run's folder, for the record of what is made.
    """

    name: str
    uri: str
    architecture: str
    run: Path


class Backend(Protocol):
    """Serves weights.

    Attributes:
        name: ends the name of the deployed program.
        service: of AWS, whose region things are recorded with.
        architectures: what it serves; empty: anything.
    """

    name: str
    service: str
    architectures: frozenset[str]

    def serve(self, upload: Upload, say: Say) -> str:
        """Serve uploaded weights; the model string of the result. What is served already is not served twice."""
        ...


def deploy(program: Path, backend: Backend, s3: str, say: Say) -> Path:
    """Deploy a saved program's model.

    Args:
        program: the program's folder.
        backend: serves the weights.
        s3: `s3://bucket/folder` for the weights.
        say: receives a line for each step.

    Returns:
        The folder of the same program on the deployed model.

    Raises:
        SetupError: it has no weights, they cannot be served there, or AWS refuses something.
    """
    require_address(s3)
    saved = read_saved(program, Caller(), roles=("student", "embedder"))
    region = aws.region_of(aws.client(backend.service))
    with tempfile.TemporaryDirectory(prefix="deploy-") as scratch:
        folder = export_weights(saved, Path(scratch) / "weights")
        stated = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or ["?"]
        if backend.architectures and stated[0] not in backend.architectures:
            raise SetupError(
                f"{backend.name} serves no {stated[0]}; it serves {', '.join(sorted(backend.architectures))}."
            )
        name = f"{_plain(saved.about['task'], saved.arm)}-{digest(folder)}"
        uri = f"{s3.rstrip('/')}/{saved.run.name}/weights/{name}/"
        record(saved.run, Made("s3", uri, region))
        present = set(addresses_in(uri))
        for path in sorted(folder.iterdir(), key=lambda each: each.name == "config.json"):  # last: it says all is there
            if f"{uri}{path.name}" not in present:
                say(f"{path.name} ({path.stat().st_size / 1e6:.0f} MB) to {uri}")
                upload_file(path, f"{uri}{path.name}")
    model = backend.serve(Upload(name, uri, str(stated[0]), saved.run), say)
    return plug_back(saved, model, f"{saved.arm}-{backend.name}")


def plug_back(saved: Saved, model: str, arm: str) -> Path:
    """Write a saved program again with another student, in all else the same.

    Args:
        saved: the program.
        model: the new student's model string.
        arm: the new program's name.
    """
    config = saved.config
    student = config.models.student
    kept = {key: value for key, value in config.models.options.get("student", {}).items() if key not in NAMES}
    options = {**config.models.options, "student": {**EMBEDDED_OPTIONS, **kept}}
    models = config.models.model_copy(update={"student": model, "options": options, "api_base": None})
    retrieval = config.retrieval
    if retrieval.steps == "auto":  # decided by the student's name: as it was for the one before
        steps = "on" if is_capable(student) else "off"
        retrieval = retrieval.model_copy(update={"steps": steps})
    config = config.model_copy(update={"models": models, "retrieval": retrieval})
    state = {key: value if key == "metadata" else _with_model(value, model) for key, value in saved.state.items()}
    about = {key: value for key, value in saved.about.items() if key not in ("weights", "signature")}
    about |= {"arm": arm, "config": config.model_dump(mode="json")}
    about["signature"] = signing.sign(saved.workspace, about, state)
    folder = saved.run / "programs" / arm
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / PROGRAM, json.dumps(state, indent=2, ensure_ascii=False) + "\n")
    write_whole(folder / ABOUT, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return folder


def _with_model(predictor: Mapping[str, Any], model: str) -> dict[str, Any]:
    lm = predictor.get("lm")
    if lm is None:
        return dict(predictor)
    kept = {key: value for key, value in lm.items() if key in SAMPLING or key in ("_dspy_lm_class", "model_type")}
    return {**predictor, "lm": {**kept, "model": model, "cache": False}}


def _plain(*names: str) -> str:
    return re.sub(r"[^0-9A-Za-z]+", "-", "-".join(names))[:_NAME_LENGTH].strip("-")
