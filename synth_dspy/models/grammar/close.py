"""Closes truncated replies so that they can be parsed: JSON values, and lists of calls."""

from __future__ import annotations

import ast
import json
from collections import deque
from collections.abc import Callable
from typing import Any

_Open = tuple[str, Any]
"""The closing bracket of the innermost open bracket, and the `_Open` around it, or None."""
_TRIED = 64
_CLOSERS = {"{": "}", "[": "]", "(": ")"}


def close_json(text: str) -> str | None:
    """Close a truncated JSON reply, or return None if that is not possible.

    Open strings, arrays and objects are closed, and a member without a value is dropped. Nothing is made up: fields
    that were not reached stay missing.
    """
    return _closed(text, json.loads)


def close_json_calls(text: str) -> str | None:
    """Like `close_json`, for a list of calls: a call whose name may be incomplete is dropped."""
    return _closed(text, _read_json_calls)


def close_python_calls(text: str) -> str | None:
    """Like `close_json_calls`, for calls in Python syntax."""
    return _closed(text, _read_python_calls)


def after_token(close: Callable[[str], str | None], token: str | None) -> Callable[[str], str | None]:
    """Adapt `close` to replies that may begin with a call token, which is kept."""
    if not token:
        return close

    def close_behind(text: str) -> str | None:
        calls = text.removeprefix(token)
        closed = close(calls)
        return None if closed is None else text[: len(text) - len(calls)] + closed

    return close_behind


def _read_json_calls(text: str) -> None:
    """Raise ValueError unless `text` is a list of calls with arguments."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        if "$call" in value and not (isinstance(value["$call"], dict) and "arguments" in value["$call"]):
            raise ValueError("not a call")
        return value

    calls = json.loads(text, object_hook=check)
    if not isinstance(calls, list) or not all(isinstance(call, dict) and "arguments" in call for call in calls):
        raise ValueError("not a list of calls")


def _read_python_calls(text: str) -> None:
    """Raise ValueError or SyntaxError unless `text` is a list of calls whose arguments are literals and calls."""
    tree = ast.parse(text, mode="eval").body
    if not isinstance(tree, ast.List) or not all(isinstance(each, ast.Call) for each in tree.elts):
        raise ValueError("not a list of calls")
    callees: set[ast.AST] = set()  # names of called functions; any other name is an incomplete literal
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            callees |= set(ast.walk(node.func))
        elif isinstance(node, ast.Name) and node not in callees:
            raise ValueError("not a literal")


def _closed(text: str, read: Callable[[str], Any]) -> str | None:
    stack: _Open | None = None
    in_string = escaped = False
    # Lengths of prefixes of `text` that closers complete; the last few suffice, since the cut is at the end.
    cut_points: deque[tuple[int, _Open | None]] = deque(maxlen=_TRIED)
    for position, char in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
            continue
        if char == '"':
            in_string = True
        elif char in _CLOSERS:
            stack = (_CLOSERS[char], stack)
            cut_points.append((position + 1, stack))
        elif char in _CLOSERS.values() and stack:
            stack = stack[1]
            cut_points.append((position + 1, stack))
        elif char == ",":
            cut_points.append((position, stack))
    completed = (text[:-1] if escaped else text) + ('"' if in_string else "") + _closers(stack)
    for candidate in (completed, *(text[:length] + _closers(open_) for length, open_ in reversed(cut_points))):
        try:
            read(candidate)
        except (ValueError, SyntaxError):
            continue
        except (RecursionError, MemoryError):  # thousands of brackets
            return None
        return candidate
    return None


def _closers(stack: _Open | None) -> str:
    closers = []
    while stack:
        closer, stack = stack
        closers.append(closer)
    return "".join(closers)
