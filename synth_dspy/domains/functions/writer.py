"""The teacher's modules: they write a request for calls, a reply from a result, a value with nothing to draw from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from synth_dspy.domains.functions.details import what_it_does
from synth_dspy.domains.functions.filters import results_of, states_result
from synth_dspy.domains.functions.program import in_object, is_embedded, json_format
from synth_dspy.domains.functions.prompts import first_sentence
from synth_dspy.domains.functions.schema import Function
from synth_dspy.domains.functions.wording import REPLIES
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.synthesis.samples import draw

DECODING: dict[str, Any] = {"max_tokens": 48, "temperature": 0.0, "stop": ["\n"]}
SAMPLING: dict[str, Any] = {"temperature": 0.6, "top_p": 0.9}


class WriteRequest(dspy.Signature):
    """Write what a user says who wants this done. Say every detail and add none."""

    wanted: str = dspy.InputField()
    request: str = dspy.OutputField()


class WriteReply(dspy.Signature):
    """Answer the request in one short sentence that says the result."""

    request: str = dspy.InputField()
    result: str = dspy.InputField()
    reply: str = dspy.OutputField()


class WriteValue(dspy.Signature):
    """Give one realistic value of this argument, as a JSON string."""

    function: str = dspy.InputField()
    argument: str = dspy.InputField()
    value: str = dspy.OutputField()


class RequestWriter(dspy.Module):
    """Has the teacher request calls in words. Its own demonstrations come before those chosen for a request."""

    def __init__(self) -> None:
        super().__init__()
        self.write = dspy.Predict(WriteRequest)

    def forward(self, wanted: str, shots: Sequence[dspy.Example] = (), **decoding: Any) -> dspy.Prediction:
        with dspy.context(adapter=PlainAdapter()):
            prediction = self.write(wanted=wanted, demos=[*self.write.demos, *shots], config={**DECODING, **decoding})
        return dspy.Prediction(request=_one_line(prediction.request))


class ReplyWriter(dspy.Module):
    """Has the teacher answer a request in words, from the results of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict(WriteReply)

    def forward(self, question: str, results: Sequence[Mapping[str, Any]]) -> str | None:
        """The answer; None if the results do not fit in a few words."""
        wanted = results_of(results)
        if not wanted:
            return None
        demos, reply = [dspy.Example(**shot) for shot in REPLIES], ""
        for i in range(2):
            config = {**DECODING, **draw(i, SAMPLING)}
            with dspy.context(adapter=PlainAdapter()):
                prediction = self.answer(
                    request=question, result="; ".join(map(str, wanted)), demos=demos, config=config
                )
            reply = _one_line(prediction.reply)
            if all(states_result(value, reply) for value in wanted):
                break
        return reply


class ValueWriter(dspy.Module):
    """Has the teacher invent a value of a free text without examples."""

    def __init__(self) -> None:
        super().__init__()
        self.value = dspy.Predict(WriteValue)

    def forward(self, function: Function, name: str, sample: int) -> str:
        """A value of the function's argument `name`; each `sample` gives another."""
        text = {"type": "string", "minLength": 3, "maxLength": 32}
        note = first_sentence(str(function.properties[name].get("description", ""))) or name.replace("_", " ")
        embedded = is_embedded(self.value)
        config = {**DECODING, **SAMPLING, "rollout_id": sample}
        config["response_format"] = json_format("value", text if embedded else in_object("value", text))
        if not embedded:
            del config["stop"]  # objects may take several lines
        with dspy.context(adapter=PlainAdapter()):
            prediction = self.value(function=what_it_does(function), argument=f"{name}: {note}", config=config)
        return _text_of(str(prediction.value))


def _text_of(reply: str) -> str:
    """The value in a reply that is a JSON string, an object with one, or plain text if a server ignores the schema."""
    try:
        value = json.loads(reply)
    except ValueError:
        return _one_line(reply)
    if isinstance(value, dict):
        value = value.get("value", "")
    return value if isinstance(value, str) else str(reply)


def _one_line(text: str) -> str:
    return " ".join(re.sub(r"^Request:\s*", "", str(text)).split("\n")[0].split())
