"""A `CREATE TABLE` as SQLite keeps it, with remarks: every key, check, default and spelling stays as it was.

SQLite stores the statement's own text (sqlite.org/schematab.html), and by its grammar a table's columns come first and
its constraints after them (sqlite.org/lang_createtable.html). So the text is only split into tokens, to find where each
column begins, and otherwise left unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))"""
    r"""|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[^\s'"`\[(),/-]+|.""",
    re.S,
)
"""Remarks and white space, then quoted names and texts, words, and single signs (sqlite.org/lang_keywords.html)."""
_QUOTES = {"'": "'", '"': '"', "`": "`", "[": "]"}


def with_remarks(definition: str, remarks: Mapping[str, str]) -> str:
    """The statement with a `-- remark` on a line of its own before each column that has one, and a semicolon.

    Args:
        definition: a `CREATE TABLE` in SQLite's dialect.
        remarks: by the column's name, spelt as there, one line each; others are left out.
    """
    by_name = dict(remarks)
    parts, done = [], 0
    for place, name in _columns(definition):
        remark = by_name.pop(name, "")
        if remark:
            before = definition[done:place].rstrip(" \t")
            alone = before.endswith("\n")
            indent = definition[done + len(before) : place] if alone else "  "
            parts += [before, "" if alone else "\n", f"{indent}-- {remark}\n{indent}"]
            done = place
    text = ("".join(parts) + definition[done:]).rstrip()
    # A remark after the last parenthesis is kept too: a semicolon behind that would be part of it.
    return text + ("\n;\n" if "--" in text.rpartition("\n")[2] else ";\n")


def _columns(definition: str) -> list[tuple[int, str]]:
    """Where each column's definition begins, and its name; table constraints too, which begin with a keyword."""
    columns, depth, due = [], 0, False
    for match in _TOKEN.finditer(definition):
        token = match[0]
        if match["blank"] is not None:
            continue
        if due:
            columns.append((match.start(), _bare(token)))
            due = False
        if token == "(":
            depth += 1
            due = depth == 1 and not columns
        elif token == ")":
            depth -= 1
        elif token == "," and depth == 1:
            due = True
    return columns


def _bare(token: str) -> str:
    """A name without its quotes."""
    end = _QUOTES.get(token[0])
    if end is None or len(token) < 2:
        return token
    return token[1:-1] if token[0] == "[" else token[1:-1].replace(end * 2, end)
