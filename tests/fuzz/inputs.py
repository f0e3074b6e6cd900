"""Inputs that nobody meant: valid files and values with something wrong in them.

Bytes alone hardly get past a parser. So most inputs are a valid one that is damaged: on the level of bytes, or of the
values in it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
ESCAPES = "\x1b[2J\x07\u202e\u061c\U000e0041\u2028"
_DEEP: Any = None
for _ in range(150):
    _DEEP = [_DEEP]
_ODD_TEXTS = ["", " ", "\0", ESCAPES, "../../etc/passwd", "\ud800", "NaN", "x" * 70_000, "(a+)+$", "{{ 7 * 7 }}", "-1"]
_ODD_NUMBERS = [0, -1, 1, 2**31, 2**63, 10**400, -(2**70), 0.5, 1e308, float("nan"), float("inf"), -float("inf")]

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from(_ODD_NUMBERS)
    | st.integers()
    | st.floats()
    | st.sampled_from(_ODD_TEXTS)
    | st.text(max_size=30)
)
values = st.just(_DEEP) | st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
"""JSON values, odd ones first; half surrogate pairs, NaN and infinity among them."""

_TOKENS = [
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"[" * 5_000, b'{"a":' * 5_000, b"(" * 300, b"9" * 5_000, b'"\\ud800"',
    b"NaN", b"1e999", b"\r", b"\n\n", b'"', b"}", b"\xef\xbb\xbf", ESCAPES.encode(), b"\xff" * 8, b"&a [*a]",
    b"<<: *a",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, valid: bytes | Sequence[bytes]) -> bytes:
    """A valid file with a few places cut, changed, doubled or filled with something odd; now and then just bytes."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=300))
    data = valid if isinstance(valid, bytes) else draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["cut", "drop", "flip", "put", "double"])):
            case "cut":
                data = data[:start]
            case "drop":
                data = data[:start] + data[end:]
            case "flip":
                data = data[:start] + draw(st.binary(min_size=1, max_size=8)) + data[start + 1 :]
            case "put":
                data = data[:start] + draw(st.sampled_from(_TOKENS)) + data[start:]
            case "double":
                data = data[:end] + data[start:]
    return data


@st.composite
def altered(draw: st.DrawFn, valid: Any) -> Any:
    """A valid JSON value in which one or a few parts are something else, are missing, or stand twice."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = None, None
        node = value
        while isinstance(node, dict | list) and node and (holder is None or draw(st.integers(0, 4))):
            holder, key = node, draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            node = node[key]
        if holder is None:
            return draw(values)
        match draw(st.sampled_from(["put", "put", "put", "drop", "double"])):
            case "drop":
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.insert(key, node)
            case _:
                holder[key] = copy.deepcopy(draw(values))  # a list put into itself would be a circle
    return value


def as_json(value: Any) -> bytes:
    """JSON as Python writes it, which is not always JSON: NaN, Infinity."""
    return json.dumps(value).encode()


def json_files(valid: Any) -> st.SearchStrategy[bytes]:
    """Files that should hold a value such as `valid`."""
    return altered(valid).map(as_json) | damaged(as_json(valid))


def line_files(rows: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """Files that should hold `rows` as JSON lines."""

    def text(lines: Sequence[Any]) -> bytes:
        return b"\n".join(map(as_json, lines))

    one = st.lists(st.sampled_from([*rows]) | altered(rows[0]), min_size=1, max_size=4)
    return one.map(text) | damaged(text(rows))
