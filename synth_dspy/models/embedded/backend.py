"""What the model server needs of an engine, and which engine serves a model.

OpenVINO reads GGUF files of the Llama and Qwen2 families, and is the fastest on CPUs. transformers serves every other
causal language model, on the GPU if there is one, with PEFT adapters applied and not merged. The choice depends on the
base alone, so that a student and its tuned versions are always served by the same engine on the same device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.core.waiting import import_torch
from synth_dspy.models.embedded.generation import Sampling, ServerSettings
from synth_dspy.models.weights.trained import ADAPTER_CONFIG

ENGINE = "SYNTH_DSPY_ENGINE"
"""Environment variable that names the engine for models that several can serve."""
OPENVINO_MODEL = "openvino_model.xml"
Engine = Literal["openvino", "transformers"]


class ChatTokenizer(Protocol):
    """A served model's tokenizer and chat template.

    Attributes:
        stop_ids: the tokens that end a reply.
        longest: the maximum number of tokens of a text: longer ones are truncated silently.
        stops: strings that end every reply.
    """

    stop_ids: set[int]
    longest: int
    stops: tuple[str, ...]

    def render(self, messages: Sequence[Mapping[str, str]]) -> str: ...
    def encode(self, prompt: str) -> list[int]: ...
    def text(self, ids: Sequence[int]) -> str: ...


class Reply(Protocol):
    """A request in flight."""

    def cancel(self) -> None: ...
    def can_read(self) -> bool:
        """Whether it has its first token, as far as is known."""

    def state(self) -> Literal["running", "ignored", "finished"]:
        """`ignored`: it does not fit into the cache."""

    def read(self) -> tuple[list[int], list[float], bool]:
        """The token ids of a finished reply, their log-probabilities, and whether it was cut at `max_tokens`."""


class Pipeline(Protocol):
    """A loaded model that answers many requests at once. Used from one thread."""

    context_length: int

    @property
    def tokenizer(self) -> ChatTokenizer: ...
    def add(self, number: int, ids: Sequence[int], sampling: Sampling) -> Reply: ...
    def step(self) -> None:
        """Go on with all requests for a moment. After an error the pipeline is not used again."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of a model.

    Attributes:
        engine: its name.
        path: what it loads: a GGUF file, an OpenVINO folder, a Hugging Face folder or a PEFT adapter's.
        why: the reason, to follow "because".
    """

    engine: Engine
    path: Path
    why: str


def choose(model: Path) -> Choice:
    """Choose the engine of a model; a folder that OpenVINO is to serve is converted and cached.

    Args:
        model: a GGUF file, or the folder of a Hugging Face model, an OpenVINO model or a PEFT adapter.

    Raises:
        SetupError: no engine can serve it; says why.
    """
    from synth_dspy.models.weights.gguf import readable

    engine, why = _engine(model)
    return Choice(engine, readable(model) if engine == "openvino" else model, why)


def engine_of(model: Path) -> Engine:
    """The engine of a model, without converting anything. Raises as `choose`."""
    return _engine(model)[0]


def describe(model: Path, name: str) -> str:
    """One line for users: which engine serves a model, where, and why."""
    from synth_dspy.models.embedded.precision import precision

    engine, why = _engine(model)
    if engine == "openvino":
        return f"{name} is served by OpenVINO on the CPU in {precision()}, because {why}."
    from synth_dspy.models.chat import has_plain_template, open_tokenizer
    from synth_dspy.models.embedded.torch_model import base_of, place

    device, dtype = place()
    plain = has_plain_template(open_tokenizer(base_of(model)[0]))
    template = " It has no chat template, so a plain one is used (System:, User:, Assistant:)." if plain else ""
    return f"{name} is served by transformers on the {device.upper()} in {dtype}, because {why}.{template}"


def open_pipeline(path: Path, settings: ServerSettings) -> Pipeline:
    """Load what `choose` names."""
    if path.is_file() or (path / OPENVINO_MODEL).exists():
        from synth_dspy.models.embedded.pipeline import OpenVinoPipeline

        return OpenVinoPipeline(path, settings)
    from synth_dspy.models.embedded.torch_pipeline import TransformersPipeline

    return TransformersPipeline(path, settings)


def context_window(path: Path) -> int:
    """The context window of what `choose` names, in tokens."""
    from synth_dspy.models.weights.gguf import context_length

    if path.is_file() or (path / OPENVINO_MODEL).exists():
        return context_length(path)
    from synth_dspy.models.embedded.torch_model import base_of, served_config, window

    return window(served_config(base_of(path)[0]))


def _engine(model: Path) -> tuple[Engine, str]:
    from synth_dspy.models.weights.gguf import read_header
    from synth_dspy.models.weights.hf_folder import obstacle

    if model.is_file():
        header = read_header(model)
        family = header.metadata.get("general.architecture")
        if family not in ("llama", "qwen2"):
            raise SetupError(
                f"{model} is a GGUF file of a {family} model, and only those of llama and qwen2 models can be served; "
                "name the model's Hugging Face folder"
            )
        if any("rope" in name for name in header.tensor_types):
            raise SetupError(
                f"{model} has scaled rotary embeddings, which the reader of GGUF files ignores; name the model's "
                "Hugging Face folder"
            )
        return "openvino", f"it is a GGUF file of a {family} model"
    if (model / OPENVINO_MODEL).exists():
        return "openvino", "it is an OpenVINO model"
    adapter = (model / ADAPTER_CONFIG).is_file()
    if not adapter and not (model / "config.json").is_file():
        raise SetupError(f"{model} is not a model folder: it has no config.json; name a GGUF file or one")
    import_torch()  # before anything else imports it
    if adapter:
        return "transformers", "it is an adapter, which is applied to its base without merging"
    asked = os.environ.get(ENGINE, "")
    if asked not in ("", "openvino", "transformers"):
        raise SetupError(f"{ENGINE} is {asked!r}: set it to openvino or transformers, or leave it out.")
    why = obstacle(model, read_json_object(model / "config.json", "The model's"))
    if asked == "openvino" and why:
        raise SetupError(f"{ENGINE} is openvino, but {model} cannot be converted for it: {why}.")
    if asked:
        return asked, f"{ENGINE} says so"  # type: ignore[return-value]
    if why:
        return "transformers", f"OpenVINO's reader cannot take it ({why})"
    if _gpu():
        return "transformers", "there is a GPU"
    return "openvino", "it is of a family that OpenVINO reads, and there is no GPU"


@cache
def _gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
