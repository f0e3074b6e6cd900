"""Files that people and other programs write: text, JSON and TOML, each read in one way that fails in one sentence.

Python's own parsers raise more than their documentation says: a few thousand brackets end in a RecursionError, a number
of 5,000 digits in a ValueError that is no JSONDecodeError, and half a surrogate pair is found only when it is printed.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth_dspy.errors import SetupError

MOST_BYTES = 1_000_000_000
"""Length of a run's file that is still read: a sparse file of a terabyte takes no room and fills all memory."""


def read_text(path: Path, what: str = "", remedy: str = "check the path") -> str:
    """A file's text, which is UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: stands before its name in a message, such as "The rules".
        remedy: what to do about a file that is missing or may not be read.

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
    """The text of a file of a run's folder, which somebody else may have made: a pipe there would be waited for.

    Args:
        path: the file, UTF-8.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file (nor a link to one), or is longer.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open(path, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no regular file")
        if found.st_size > most:
            raise OSError(f"it is longer than {most / 10**6:,.0f} MB")
        return file.read()


def parse_json(text: str | bytes) -> Any:
    """A JSON value.

    Raises:
        ValueError: it is not JSON, is nested more than 200 deep, or holds a number of thousands of digits or half a
            surrogate pair; says where.
    """
    from pydantic_core import from_json

    try:
        return from_json(text)
    except TypeError as error:  # a text that cannot be encoded
        raise ValueError("it holds half of a surrogate pair") from error


def tree(value: Any, most: int = 1_000_000, depth: int = 200) -> Any:
    """A value, if it is a tree of JSON's kinds, as what JSON holds always is; YAML's aliases can make others.

    Args:
        value: dictionaries and lists of texts, numbers, booleans and None.
        most: how many values it may hold; one that several aliases stand for counts each time.
        depth: how deep it may be nested.

    Raises:
        ValueError: it is not one, or too large a one.
    """
    stack = [(value, 0)]
    count = 0
    while stack:
        node, level = stack.pop()
        count += 1
        if count > most or level > depth:
            raise ValueError(f"it holds more than {most:,} values, or is nested more than {depth} deep")
        if isinstance(node, dict):
            if not all(isinstance(key, str | int | float | None) for key in node):
                raise ValueError("a key is no text")
            stack += [(each, level + 1) for each in node.values()]
        elif isinstance(node, list):
            stack += [(each, level + 1) for each in node]
        elif not isinstance(node, str | int | float | None):
            raise ValueError(f"it holds a value of the kind {type(node).__name__}")
    return value


def read_json(path: Path, what: str = "", remedy: str = "mend the file") -> Any:
    """The JSON value that a file holds.

    Args:
        path: the file.
        what: stands before its name in a message.
        remedy: what to do about a file that is missing or damaged.

    Raises:
        SetupError: it cannot be read, or is not JSON.
    """
    try:
        return parse_json(read_text(path, what, remedy))
    except ValueError as error:
        raise SetupError(f"{what} {path} is not JSON ({error}); {remedy}.".strip()) from error


def read_json_object(path: Path, what: str = "", remedy: str = "mend the file") -> dict[str, Any]:
    """As `read_json`, of a file that is to hold an object.

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
    except ValueError as error:  # of a number of thousands of digits, no TOMLDecodeError
        raise SetupError(f"{what} {path} is not valid TOML: {error}.") from error
