"""Functions as a source: read, described, called, checked, whatever syntax they come in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_F = TypeVar("_F", bound=Callable[..., object])


def read_only(function: _F) -> _F:
    """Mark a function as one whose call changes nothing, so that it may be executed to verify synthetic calls.

    A docstring with the line "Read-only." says the same without this import.
    """
    function.__read_only__ = True  # type: ignore[attr-defined]
    return function
