"""Topics of questions and texts, detected by words: embeddings hardly tell a contract's end from its start."""

from __future__ import annotations

import re
from collections.abc import Mapping


class Cues:
    """Detects topics by words.

    Args:
        topics: two patterns by topic: the first matches questions about it, the second texts about it.
    """

    def __init__(self, topics: Mapping[str, tuple[str, str]]) -> None:
        self._topics = {name: (re.compile(a, re.I), re.compile(b, re.I)) for name, (a, b) in topics.items()}

    def topics_in(self, question: str) -> dict[str, re.Pattern[str]]:
        """The topics that a question asks about, each with a pattern of texts about it."""
        return {name: pattern for name, (asks, pattern) in self._topics.items() if asks.search(question)}
