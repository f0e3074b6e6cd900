"""What a question speaks of, told by words: embeddings hardly tell when a contract ends from when it begins."""

from __future__ import annotations

import re
from collections.abc import Mapping


class Cues:
    """Topics by the words they are spoken of in.

    Args:
        topics: by topic, two patterns: a question that the first matches asks about it; a text that the second matches
            speaks of it.
    """

    def __init__(self, topics: Mapping[str, tuple[str, str]]) -> None:
        self._topics = {name: (re.compile(a, re.I), re.compile(b, re.I)) for name, (a, b) in topics.items()}

    def asked(self, question: str) -> dict[str, re.Pattern[str]]:
        """The topics that a question asks about, with what matches a text that speaks of them."""
        return {name: said for name, (asks, said) in self._topics.items() if asks.search(question)}
