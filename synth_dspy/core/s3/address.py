"""Addresses of the form `s3://bucket/key`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from synth_dspy.core.errors import SetupError

_ADDRESS = re.compile(r"s3:(?:/{1,2}(?P<bucket>[^/]*)/*(?P<key>.*))?", re.IGNORECASE | re.DOTALL)
"""With fewer slashes too: a `Path` of an address has lost one, and one of `s3://` both."""
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{3,255}|arn:[^/\s]+")
_LONGEST = 255
"""Bytes of a file's name on common file systems."""


@dataclass(frozen=True, slots=True)
class Address:
    """A place in S3.

    Attributes:
        bucket: the bucket's name, or the ARN of an access point.
        key: an object's key, or a prefix of keys up to a slash, without slashes at its ends; empty: the whole bucket.
    """

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, name: str) -> Address:
        return Address(self.bucket, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        """The last part, which names the local copy."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def inside(self) -> str:
        """What the keys of the objects in this folder begin with."""
        return f"{self.key}/" if self.key else ""


def is_address(value: object) -> bool:
    """Whether a path or a text names a place in S3."""
    return isinstance(value, str | Path) and _ADDRESS.fullmatch(str(value)) is not None


def address_of(value: str | Path | None) -> Address | None:
    """The address that a path or a text is; None if it is not one.

    Raises:
        SetupError: it names no bucket.
    """
    match = _ADDRESS.fullmatch(str(value)) if value is not None else None
    if match is None:
        return None
    if not _BUCKET.fullmatch(match["bucket"] or ""):
        raise SetupError(f"{str(value)!r} names no bucket: write it as s3://bucket/folder.")
    return Address(match["bucket"], match["key"].strip("/"))


def require_address(value: str) -> Address:
    """The address that a text is.

    Raises:
        SetupError: it is not one, or names no bucket.
    """
    address = address_of(value)
    if address is None:
        raise SetupError(f"{value!r} is not an address on S3: write s3://bucket/folder.")
    return address


def relative_name(key: str, folder: Address) -> str:
    """The path of an object in the local copy of a folder.

    Raises:
        SetupError: the key would lead out of the folder, or cannot be a file's name.
    """
    name = key.removeprefix(folder.inside)
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > _LONGEST for part in parts):
        raise SetupError(
            f"The object {key!r} in s3://{folder.bucket} cannot be a file below {folder}: a part of its key is empty, "
            f"'.', '..' or longer than {_LONGEST} bytes; rename it, or name a folder without it."
        )
    return name
