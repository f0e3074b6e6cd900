"""A served model's tokenizer: text to token ids and back, and the model's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.lms.gguf import control_tokens


class Tokenizer:
    """The tokenizer of a pipeline.

    Args:
        pipeline: an `openvino_genai.ContinuousBatchingPipeline`; it is not kept.
        path: the model that it serves.
        context_length: the model's, in tokens.

    Attributes:
        stop_ids: the tokens that end a reply.
        longest: as many tokens as it makes of any text: it cuts longer ones, and says nothing.
    """

    def __init__(self, pipeline: Any, path: Path, context_length: int) -> None:
        self._tokenizer = pipeline.get_tokenizer()
        self._path = path
        self._control: frozenset[int] | None = None  # read once a reply asks for it
        self.stop_ids = {int(self._tokenizer.get_eos_token_id()), *map(int, pipeline.get_config().stop_token_ids)}
        self.longest = int(self.encode(" a" * (context_length + 8)).shape[1])

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt that the chat template makes of `messages` (role and content), ready for a reply."""
        return str(self._tokenizer.apply_chat_template([dict(m) for m in messages], True))

    def encode(self, prompt: str) -> Any:
        """The ids of `prompt`, an `openvino.Tensor` [1, tokens]: special tokens are parsed, none are added."""
        return self._tokenizer.encode(prompt, add_special_tokens=False).input_ids

    def text(self, ids: Sequence[int]) -> str:
        """A reply's text. OpenVINO takes every added token for one that is not to be shown, a model's `<tool_call>`
        too, which is part of what it says."""
        text = str(self._tokenizer.decode(ids))
        said = [i for i in ids if i not in self.stop_ids]
        if self._path.is_dir() or text == self._tokenizer.decode(said, skip_special_tokens=False):
            return text
        if self._control is None:
            self._control = control_tokens(self._path)
        return str(self._tokenizer.decode([i for i in said if i not in self._control], skip_special_tokens=False))
