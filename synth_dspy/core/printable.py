"""Text from documents, models and other people's files, before it is shown: nothing in it can move, hide or lie."""

from __future__ import annotations

import re
import unicodedata

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


def printable_name(name: str) -> str:
    """A name, or another line of foreign text, made harmless; ordinary names stay as they are.

    Control and escape characters, marks that change the direction of writing, invisible tag characters, half surrogate
    pairs and unassigned characters come out as escapes such as `\\u202e`, bytes that are not UTF-8 as `\\xff`, and
    blanks of any width as one space.
    """
    return "".join(character if character.isprintable() else _escaped(character) for character in name)


def _escaped(character: str) -> str:
    code = ord(character)
    if unicodedata.category(character) == "Zs":
        return " "
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
