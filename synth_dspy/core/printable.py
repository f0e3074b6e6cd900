"""Sanitises untrusted text (documents, model output, foreign files) for display: no hidden or control characters."""

from __future__ import annotations

import re
import unicodedata

# Everything that moves a terminal's cursor, hides text, or reverses its direction, except line feed and tab. In this
# order: control characters; zero width; direction marks and embeddings; line separators other than line feed;
# invisible operators and isolates; byte order mark; annotations; lone surrogates; tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """Untrusted text with each such character replaced by U+FFFD. The result can always be encoded as UTF-8."""
    return _HIDDEN.sub("\ufffd", text.replace("\r\n", "\n"))


def printable_name(name: str) -> str:
    """A name, or another line of untrusted text, made safe to print; ordinary names stay as they are.

    Control and escape characters, direction marks, invisible tag characters, lone surrogates and unassigned characters
    become escapes such as `\\u202e`, bytes that are not UTF-8 become `\\xff`, and blanks of any width one space.
    """
    return "".join(character if character.isprintable() else _escaped(character) for character in name)


def _escaped(character: str) -> str:
    code = ord(character)
    if unicodedata.category(character) == "Zs":
        return " "
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate escape of a non-UTF-8 byte in a file name
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
