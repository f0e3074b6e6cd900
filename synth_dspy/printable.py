"""Names of files as they are shown and written, with what a terminal, report or database would stumble over escaped."""

from __future__ import annotations

import unicodedata


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
