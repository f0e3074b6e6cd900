"""Reading text, JSON and TOML from users and other programs; every failure is one sentence.

Python's own parsers raise more than their documentation says: a few thousand brackets end in a RecursionError, a number
of 5,000 digits in a ValueError that is not a JSONDecodeError, and a lone surrogate fails only when it is printed.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError

Json = dict[str, Any]
"""A JSON object."""
MOST_BYTES = 1_000_000_000
"""Longest file of a run that is read: a sparse file of a terabyte takes no disk space but would fill the memory."""


def read_text(path: Path, what: str = "", remedy: str = "check the path") -> str:
    """A file's text, which is UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: precedes its path in a message, such as "The rules".
        remedy: what to do about a file that is missing or unreadable.

    Raises:
        SetupError: it cannot be read, or is not UTF-8.
    """
    name = f"{what} {path}".strip()
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SetupError(f"{name} cannot be read: it is not UTF-8 text; save it as UTF-8.") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise SetupError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}; {remedy}.") from error


def read_part(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file in a run's folder, which may be somebody else's: pipes and huge files are refused.

    Args:
        path: the file, UTF-8.
        most: maximum size in bytes.

    Raises:
        OSError: it cannot be read, is not a regular file (or a link to one), or is longer.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open(path, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if status.st_size > most:
            raise OSError(f"it is longer than {most / 10**6:,.0f} MB")
        return file.read()


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON value.

    Raises:
        ValueError: it is not JSON, is nested more than 200 levels deep, or contains a number of thousands of digits or
            a lone surrogate; says where.
    """
    from pydantic_core import from_json

    try:
        return from_json(text)
    except TypeError as error:  # a text that cannot be encoded
        raise ValueError("it contains a lone surrogate") from error


def tree(value: Any, most: int = 1_000_000, depth: int = 200) -> Any:
    """Return the value if it is a tree of JSON types; YAML's aliases can make cycles and exponential structures.

    Args:
        value: dictionaries and lists of strings, numbers, booleans and None.
        most: maximum number of values; a value counts once for each alias of it.
        depth: maximum nesting.

    Raises:
        ValueError: it is not such a tree, or is too large.
    """
    stack = [(value, 0)]
    count = 0
    while stack:
        node, level = stack.pop()
        count += 1
        if count > most or level > depth:
            raise ValueError(f"it holds more than {most:,} values, or is nested more than {depth} levels deep")
        if isinstance(node, dict):
            if not all(isinstance(key, str | int | float | None) for key in node):
                raise ValueError("a key is not a string")
            stack += [(each, level + 1) for each in node.values()]
        elif isinstance(node, list):
            stack += [(each, level + 1) for each in node]
        elif not isinstance(node, str | int | float | None):
            raise ValueError(f"it holds a value of type {type(node).__name__}")
    return value


def read_json(path: Path, what: str = "", remedy: str = "fix the file") -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: precedes its path in a message.
        remedy: what to do about a file that is missing or damaged.

    Raises:
        SetupError: it cannot be read, or is not JSON.
    """
    try:
        return parse_json(read_text(path, what, remedy))
    except ValueError as error:
        raise SetupError(f"{what} {path} is not JSON ({error}); {remedy}.".strip()) from error


def read_json_object(path: Path, what: str = "", remedy: str = "fix the file") -> dict[str, Any]:
    """Like `read_json`, for a file that must hold an object.

    Raises:
        SetupError: it cannot be read, or is not a JSON object.
    """
    value = read_json(path, what, remedy)
    if not isinstance(value, dict):
        raise SetupError(f"{what} {path} is not a JSON object; {remedy}.".strip())
    return value


def read_toml(path: Path, what: str) -> Mapping[str, Any]:
    """The tables of a TOML file.

    Raises:
        SetupError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(read_text(path, what))
    except RecursionError as error:
        raise SetupError(f"{what} {path} is nested too deeply to be read; flatten it.") from error
    except ValueError as error:  # a number of thousands of digits raises no TOMLDecodeError
        raise SetupError(f"{what} {path} is not valid TOML: {error}.") from error
