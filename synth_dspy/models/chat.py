"""Rendering chats with a model's own template, alike in training and in serving.

Three habits of templates are evened out: a base model has none and gets a plain one; some refuse a system message,
which then opens the first message of the user; a reasoning model is asked for the answer alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError

_PLAIN = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
PLAIN_STOP = "\n\nUser:"
"""Where the reply of a base model ends that goes on with the chat by itself."""


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; without a chat template it gets a plain one.

    Raises:
        SetupError: it has no tokenizer that can be loaded.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of the tokenizers library, too
        why = str(error).strip().split("\n", 1)[0]
        raise SetupError(
            f"{folder} has no tokenizer that can be loaded: {why}; copy the model's folder whole"
        ) from error
    if not tokenizer.chat_template:
        if tokenizer.eos_token is None:
            raise SetupError(f"{folder} has neither a chat template nor an end token; name an instruction-tuned model")
        # Only models that were trained with a first token get it.
        first = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if first else "") + _PLAIN
    return tokenizer


def has_plain_template(tokenizer: Any) -> bool:
    """Whether `open_tokenizer` gave the tokenizer its template."""
    return str(tokenizer.chat_template).endswith(_PLAIN)


def render(tokenizer: Any, messages: Sequence[Mapping[str, Any]], *, reply: bool = True) -> str:
    """Render `messages` (role and content) with the tokenizer's chat template.

    Args:
        tokenizer: a Hugging Face tokenizer.
        messages: the chat.
        reply: whether the model's reply is to follow.

    Raises:
        SetupError: the template refuses the chat.
    """
    from jinja2.exceptions import TemplateError

    chat = [dict(message) for message in messages]
    problem: TemplateError | None = None
    for attempt in (chat, _without_system(chat)):
        try:
            # Qwen3's and SmolLM3's switch; other templates ignore it.
            text = tokenizer.apply_chat_template(
                attempt, tokenize=False, add_generation_prompt=reply, enable_thinking=False
            )
        except TemplateError as error:
            problem = problem or error
            continue
        return str(text)
    raise SetupError(f"The chat template of {tokenizer.name_or_path} refuses the chat: {problem}.") from problem


def _without_system(chat: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The chat with system messages as the beginning of the next message, and neighbours of one role joined."""
    joined: list[dict[str, Any]] = []
    for message in chat:
        role = "user" if message["role"] == "system" else message["role"]
        if joined and joined[-1]["role"] == role:
            joined[-1]["content"] += "\n\n" + message["content"]
        else:
            joined.append({"role": role, "content": message["content"]})
    return joined
