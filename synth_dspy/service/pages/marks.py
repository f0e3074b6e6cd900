"""Marks an answer's words in the passage that they come from."""

from __future__ import annotations

import re

from markupsafe import Markup, escape


def mark(text: str, words: str) -> Markup:
    """A text, escaped, with every occurrence of the words in `<mark>`, whatever their case and blanks."""
    if not words.strip():
        return escape(text)
    pattern = r"\s+".join(map(re.escape, words.split()))
    pieces = re.split(f"({pattern})", text, flags=re.IGNORECASE)
    marked = (Markup("<mark>{}</mark>").format(piece) if n % 2 else escape(piece) for n, piece in enumerate(pieces))
    return Markup("").join(marked)
