"""Redaction: what must not be kept of inputs, answers and feedback is replaced before anything is written."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.masking import MASK
from synth_dspy.core.workspace import explain_errors, import_from

log = logging.getLogger("synth_dspy.service.redaction")

Redact = Callable[[str], str]


class Redaction:
    """Applies patterns, then a function, to all texts of a value.

    Args:
        patterns: regular expressions; what matches becomes `***`.
        function: text to text. Where it fails, nothing of the text is kept.

    Raises:
        SetupError: a pattern is not a regular expression.
    """

    def __init__(self, patterns: Sequence[str] = (), function: Redact | None = None) -> None:
        self._patterns = []
        for pattern in patterns:
            try:
                self._patterns.append(re.compile(pattern))
            except re.error as error:
                raise SetupError(f"--redact {pattern!r} is not a regular expression: {error}.") from None
        self._function = function

    def text(self, text: str) -> str:
        """A text as it is kept."""
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        if self._function is None:
            return text
        try:
            return str(self._function(text))
        except Exception as error:
            log.error("the redaction failed, so the text is not kept: %s", type(error).__name__)
            return MASK

    def value(self, value: Any) -> Any:
        """A JSON value with all its texts redacted; names of fields stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(each) for key, each in value.items()}
        return list(map(self.value, value)) if isinstance(value, list | tuple) else value


def find_function(workspace: Path, name: str) -> Redact:
    """A function of the workspace, `eval.redaction:redact`.

    Raises:
        SetupError: there is none.
    """
    module, colon, function = name.partition(":")
    if not colon or not function:
        raise SetupError(
            f"--redact-with {name!r} names no function: write it as MODULE:FUNCTION, such as eval.private:redact."
        )
    with explain_errors(workspace):
        found = getattr(import_from(workspace, module), function, None)
    if not callable(found):
        raise SetupError(f"--redact-with: {module} of {workspace} has no function {function}.")
    redact: Redact = found
    return redact
