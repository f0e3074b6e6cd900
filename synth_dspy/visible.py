"""Text from documents, models and other people's files, before it is shown: nothing in it can move, hide or lie."""

from __future__ import annotations

import re

# Everything that moves a terminal's cursor, hides text, or turns its direction round; not line feed and tab. In this
# order: control characters; zero width; marks and embeddings of direction; separators of lines that are no line feed;
# invisible operators and isolates; byte order mark; annotations; half surrogate pairs; tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Untrusted text with each such character replaced by U+FFFD. It can be encoded as UTF-8, whatever it was."""
    return _HIDDEN.sub("\ufffd", text.replace("\r\n", "\n"))
