"""A served model's tokenizer: text to token ids and back, and the model's own chat template."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import remove
from synth_dspy.models.weights.cache import kept
from synth_dspy.models.weights.gguf import control_tokens, read_header

logger = logging.getLogger(__name__)


def open_tokenizer(path: Path) -> Any:
    """OpenVINO's tokenizer of a GGUF file or of an OpenVINO model folder.

    Converting one from a GGUF file takes 2 to 3 s, half the time to load a small model. It is converted once for all
    models with the same tokenizer (a student and its tuned versions), and loaded from the cache in a tenth of a second.
    If the cache cannot be used, it is converted each time.
    """
    import openvino_genai

    if path.is_dir():
        return openvino_genai.Tokenizer(str(path))
    key = hashlib.sha256(f"{openvino_genai.__version__} {read_header(path).tokenizer}".encode()).hexdigest()[:16]

    def write(part: Path) -> None:
        part.mkdir()
        (part / "model.gguf").symlink_to(path.resolve())
        openvino_genai.Tokenizer(str(part / "model.gguf"), enable_save_ov_model=True)  # writes next to the input file
        (part / "model.gguf").unlink()

    folder = None
    try:
        folder = kept(f"tokenizer-{key}", write)
        return openvino_genai.Tokenizer(str(folder))
    except (OSError, RuntimeError, SetupError) as error:
        logger.warning("the tokenizer of %s is converted again, as the cache cannot be used: %s", path, error)
        if folder is not None:
            with suppress(OSError):
                remove(folder)  # unreadable
        return openvino_genai.Tokenizer(str(path))


class Tokenizer:
    """The tokenizer of a pipeline.

    Args:
        pipeline: an `openvino_genai.ContinuousBatchingPipeline`; it is not kept.
        path: the model that it serves.
        context_length: the model's, in tokens.

    Attributes:
        stop_ids: the tokens that end a reply.
        stops: strings that end every reply; none.
        longest: the maximum number of tokens of a text: longer ones are truncated silently.
    """

    def __init__(self, pipeline: Any, path: Path, context_length: int) -> None:
        self._tokenizer = pipeline.get_tokenizer()
        self._path = path
        self._control: frozenset[int] | None = None  # read once a reply asks for it
        self.stop_ids = {int(self._tokenizer.get_eos_token_id()), *map(int, pipeline.get_config().stop_token_ids)}
        self.stops: tuple[str, ...] = ()
        self.longest = len(self.encode(" a" * (context_length + 8)))

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Render `messages` (role and content) with the chat template, ready for a reply."""
        return str(self._tokenizer.apply_chat_template([dict(m) for m in messages], True))

    def encode(self, prompt: str) -> list[int]:
        """The ids of `prompt`: special tokens are parsed, none are added."""
        ids: list[int] = self._tokenizer.encode(prompt, add_special_tokens=False).input_ids.data[0].tolist()
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """A reply's text. OpenVINO hides every added token, including a model's `<tool_call>`, which is part of the
        reply."""
        text = str(self._tokenizer.decode(ids))
        reply_ids = [i for i in ids if i not in self.stop_ids]
        if self._path.is_dir() or text == self._tokenizer.decode(reply_ids, skip_special_tokens=False):
            return text
        if self._control is None:
            self._control = control_tokens(self._path)
        return str(self._tokenizer.decode([i for i in reply_ids if i not in self._control], skip_special_tokens=False))
