"""Plain prompts for small models: instructions, labelled input lines, and the whole reply as the output.

DSPy's own adapters wrap every field in markers or JSON. A model of 135M parameters copies the markers and forgets the
task, and the markers cost more tokens than the task. This adapter writes the instructions as the system message, the
inputs as `Name: value` lines, and demonstrations as chat turns, and takes the whole reply as the output field, so there
is no format to get wrong. Training rows look the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError


class PlainAdapter(dspy.ChatAdapter):
    """Renders a signature with exactly one output field, of type str, and any number of inputs.

    Works with any LM. A value of several lines is put below its name. It is a `ChatAdapter` because DSPy's fine-tuning
    accepts no other adapter.
    """

    def __init__(self, callbacks: list[Any] | None = None) -> None:
        super().__init__(callbacks=callbacks, use_json_adapter_fallback=False)

    def format_system_message(self, signature: Any) -> str:
        """The signature's instructions."""
        _output_name(signature)
        return textwrap.dedent(signature.instructions).strip()

    def format_user_message_content(
        self,
        signature: Any,
        inputs: Mapping[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        """The inputs as lines, in the signature's order."""
        return "\n".join(part for part in (prefix, *self.input_lines(signature, inputs), suffix) if part)

    def input_lines(self, signature: Any, inputs: Mapping[str, Any]) -> list[str]:
        """The inputs, one `Name: value` per line."""
        fields = signature.input_fields.items()
        return [_line(_label(name, field), inputs[name]) for name, field in fields if name in inputs]

    def format_assistant_message_content(
        self, signature: Any, outputs: Mapping[str, Any], missing_field_message: str | None = None
    ) -> str:
        """The output field's value."""
        value = outputs.get(_output_name(signature))
        return str(value if value is not None else missing_field_message or "")

    def format_field_with_value(self, fields_with_values: Mapping[Any, Any], role: str = "assistant") -> str:
        """Values as in a reply; DSPy's dummy LM needs it."""
        return "\n".join(str(value) for value in fields_with_values.values())

    def format_demos(self, signature: Any, demos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Demonstrations as chat turns; those without the output or without any input are left out."""
        output = _output_name(signature)
        turns: list[dict[str, Any]] = []
        for demo in demos:
            if demo.get(output) is None or not any(name in demo for name in signature.input_fields):
                continue
            turns.append({"role": "user", "content": self.format_user_message_content(signature, demo)})
            turns.append({"role": "assistant", "content": self.format_assistant_message_content(signature, demo)})
        return turns

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """The stripped reply, without a leading label of the output field.

        Raises:
            AdapterParseError: the reply is empty.
        """
        name = _output_name(signature)
        text = completion.strip()
        label = f"{_label(name, signature.output_fields[name])}:"
        if text.lower().startswith(label.lower()):
            text = text[len(label) :].strip()
        if not text:
            raise AdapterParseError(
                adapter_name=type(self).__name__, signature=signature, lm_response=completion, message="empty reply"
            )
        return {name: text}

    def format_finetune_data(
        self, signature: Any, demos: list[dict[str, Any]], inputs: dict[str, Any], outputs: dict[str, Any]
    ) -> dict[str, list[Any]]:
        """The call as chat messages with the reply last, in the format that is served."""
        messages = self.format(signature=signature, demos=demos, inputs=inputs)
        reply = {"role": "assistant", "content": self.format_assistant_message_content(signature, outputs)}
        return {"messages": [*messages, reply]}


def _output_name(signature: Any) -> str:
    names = list(signature.output_fields)
    if len(names) != 1 or signature.output_fields[names[0]].annotation is not str:
        raise ValueError(f"PlainAdapter needs a signature with one output field of type str, not {names}")
    return str(names[0])


def _label(name: str, field: Any) -> str:
    """`question` becomes `Question`; a field's own `prefix=` wins."""
    prefix = str((field.json_schema_extra or {}).get("prefix") or "").strip().rstrip(":")
    return prefix or name.replace("_", " ").capitalize()


def _line(label: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        value = "\n".join(str(part) for part in value)
    text = str(value).strip()
    return f"{label}:\n{text}" if "\n" in text else f"{label}: {text}"
