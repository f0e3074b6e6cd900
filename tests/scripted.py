"""A model that answers by a function of what it is asked: flows without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dspy
from dspy import lm15
from embedders import WordEmbedder

from synth_dspy.core.executor import Executor
from synth_dspy.core.resources import Resources


class ScriptedEngine:
    """Answers with `script(last message)`; remembers the requests it was sent."""

    supports_response_schema = True
    supports_function_calling = False
    supports_reasoning = False
    supported_params = frozenset({"max_tokens", "temperature", "stop", "top_p", "response_format"})

    def __init__(self, script: Callable[[str], str], finish_reason: str = "stop") -> None:
        self.script, self.finish_reason = script, finish_reason
        self.requests: list[Any] = []

    def complete(self, request: lm15.Request) -> lm15.Response:
        self.requests.append(request)
        text = "".join(part.text for part in request.messages[-1].parts)
        message = lm15.Message.assistant([lm15.TextPart(self.script(text))])
        usage = lm15.Usage(input_tokens=1, output_tokens=1)
        return lm15.Response(
            id=None, model=request.model, message=message, finish_reason=self.finish_reason, usage=usage
        )


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
