"""A model that answers by a function of what it is asked, and an embedder that counts words: flows without weights."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import dspy
import numpy as np
from dspy import lm15

from synth_dspy.executor import Executor
from synth_dspy.synthesis.text import content
from synth_dspy.task import Resources


class ScriptedEngine:
    """Answers with `script(last message)`; remembers the requests it was sent."""

    supports_response_schema = True
    supports_function_calling = False
    supports_reasoning = False
    supported_params = frozenset({"max_tokens", "temperature", "stop", "top_p", "response_format"})

    def __init__(self, script: Callable[[str], str]) -> None:
        self.script = script
        self.requests: list[Any] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.requests.append(request)
        text = "".join(part.text for part in request.messages[-1].parts)
        message = lm15.Message.assistant([lm15.TextPart(self.script(text))])
        usage = lm15.Usage(input_tokens=1, output_tokens=1)
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


class WordEmbedder:
    """Bags of content words, hashed into 512 dimensions, as unit vectors."""

    name = "words"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), 512), np.float32)
        for row, text in enumerate(texts):
            for word in content(text):
                vectors[row, zlib.crc32(word.encode()) % 512] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def scripted_lm(script: Callable[[str], str]) -> dspy.LM:
    """A `dspy.LM` on a `ScriptedEngine`, which is its `engine`."""
    return dspy.LM("test/scripted", engine=ScriptedEngine(script), cache=False)


def scripted_resources(lm: dspy.LM, **more: Any) -> Resources:
    """Resources of a run without models, over which `more` goes."""
    given: dict[str, Any] = {
        "student": lm,
        "teacher": lm,
        "judge_lm": None,
        "judge_model": "reference",
        "embedder": WordEmbedder(),
        "retriever": None,
        "executor": Executor(4),
        "seeds": (),
        "held_out": (),
        "words": 150,
        **more,
    }
    return Resources(**given)
