"""Functions as a source: read, described, called and validated, in any syntax."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_F = TypeVar("_F", bound=Callable[..., object])


def read_only(function: _F) -> _F:
    """Mark a function as changing nothing, so that it may be executed to verify synthetic calls.

    The line "Read-only." in its docstring has the same effect, without this import.
    """
    function.__read_only__ = True  # type: ignore[attr-defined]
    return function
