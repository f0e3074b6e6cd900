"""Tables whose names and comments hold what SQL, Markdown, YAML and Jinja mean something by."""

from __future__ import annotations

from synth_dspy.domains.tables.documentation import Comment, TableDoc
from synth_dspy.domains.tables.schema import WHOLE, Column, Table

NAMES = [
    'a"b',
    "pipe|d",
    "it's",
    "semi;colon -- drop",
    "order",
    "ünï 日本",
    "`tick`",
    "[brackets]",
    "<b>",
    "a.b",
    "c\\d",
    "no",
]
TEXTS = [
    "Robert'); DROP TABLE students;--",
    'double "quotes" and \\ backslash \\n',
    "a | b || c",
    "key: value # no comment, - no list",
    "{{ config }} and {% raw %} and {# x #}",
    "*star* _under_ `code` <script>alert(1)</script> &amp;",
    "two\nlines",
    "yes",
    "@ % ! & * leading",
    "ends with backslash \\",
    "日本語 – naïve “quotes”",
    "null",
]


def hostile(dialect: str = "duckdb", schema: str = "") -> TableDoc:
    """A table with every such name and comment."""
    table = Table('t"a|b', tuple(Column(name, "INTEGER") for name in NAMES), schema, "", dialect)
    comments = [Comment(name, text) for name, text in zip(NAMES, TEXTS, strict=True)]
    return TableDoc(table, (Comment(WHOLE, "the table's | own: {{ x }}"), *comments))
