"""Compiles JSON schemas to grammars for constrained decoding, without room for a model to waste its budget.

A JSON schema allows white space anywhere, and a weak model can fill its whole budget with it. The grammar is a subset
of the schema's language: fixed separators (`{"a": 1, "b": [true]}`, as `json.dumps` writes), every property present and
in the schema's order, no other white space, no `\\u` escapes (they can encode lone surrogates), numbers of bounded
length. Strings before a later field are bounded in words, so that a runaway string leaves room for the rest. A schema's
`maxLength` is kept exactly.

Properties named in the keyword `"x-optional": ["b", "c"]` may be left out. `ebnf.py` describes how a string's `pattern`
and `format` and a number's bounds are supported; a pattern that cannot be expressed in EBNF is ignored.

Inside arrays, such as the list of calls `[{"name": "f", "arguments": {...}}, ...]`, everything is bounded: a string
without `maxLength` to a quarter of the reply's budget (`max_tokens` characters, from 64 to 512; half of that in a list
or map that is an argument), an array without `maxItems` to 16 items (at the root: one per 16 tokens of the budget), a
value of any type to one level.

A list with the keyword `"x-call-token": "<tool_call>"` begins with that token if it is not empty.

The same schema of calls gives the grammar of Python calls, `[f(a=1, b="x"), g()]`: `python_calls_grammar`. DSPy passes
on no response format other than JSON schemas, so a grammar is wrapped in one: `grammar_format`.

The dialect is the EBNF of xgrammar, which OpenVINO GenAI compiles. Bounds are cheap only in the forms used here:
repeating a character class 400 times took 10 s to compile, the same in blocks of 32 half a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from synth_dspy.models.grammar.close import after_token, close_json, close_json_calls, close_python_calls
from synth_dspy.models.grammar.python import PythonCallsCompiler
from synth_dspy.models.grammar.schema import CALL_TOKEN, SchemaCompiler, UnsupportedSchemaError

__all__ = [
    "CALL_TOKEN",
    "Grammar",
    "UnsupportedSchemaError",
    "from_response_format",
    "grammar_format",
    "python_calls_grammar",
]
_GRAMMAR = "x-grammar"  # our own keyword, for a schema that wraps a grammar


@dataclass(frozen=True, slots=True)
class Grammar:
    """A compiled schema.

    Attributes:
        ebnf: Its text.
        word_limits: Word limits of top-level strings, which the schema does not bound.
        close: Closes a truncated reply, or returns None.
    """

    ebnf: str
    word_limits: Mapping[str, int]
    close: Callable[[str], str | None] = close_json


def from_response_format(response_format: Mapping[str, Any], max_tokens: int) -> Grammar:
    """The grammar of an lm15 `Config.response_format`: `json_object` or `json_schema`.

    Args:
        response_format: `{"type": "json_object"}` or `{"type": "json_schema", "schema": {...}}`.
        max_tokens: The reply's budget; bounds strings that would starve the fields after them.

    Raises:
        UnsupportedSchemaError: For a schema with no grammar, naming the place.
    """
    if response_format.get("type") == "json_object":
        return _compiled('{"type": "object", "additionalProperties": true}', max_tokens)
    schema = response_format["schema"]
    if _GRAMMAR in schema:
        return Grammar(schema[_GRAMMAR], {}, after_token(close_python_calls, schema.get(CALL_TOKEN)))
    return _compiled(json.dumps(schema), max_tokens)


def grammar_format(text: str, call_token: str | None = None) -> dict[str, Any]:
    """The `response_format` for `dspy.LM` that constrains an embedded model to a grammar in xgrammar's EBNF.

    A truncated list of Python calls is closed, also after a leading `call_token`; any other reply is left as it is.
    Models that are not embedded reject or ignore it.
    """
    schema = {"type": "string", _GRAMMAR: text, **({CALL_TOKEN: call_token} if call_token else {})}
    return {"type": "json_schema", "json_schema": {"name": "grammar", "schema": schema}}


def python_calls_grammar(schema: Mapping[str, Any], max_tokens: int = 256) -> str:
    """The EBNF of a list of Python calls, `[f(a=1, b="x"), g()]`, from the JSON schema of a list of calls.

    Every reply is an expression that Python reads. A function whose name is not a dotted identifier is written as
    `functions["get-weather"]()`, arguments of such names as `f(**{"user-id": 1})`, and a nested call,
    `{"$call": {"name": ..., "arguments": ...}}`, as a call.

    Args:
        schema: `{"type": "array", "items": {"anyOf": [{"type": "object", "properties": {"name": {"const": "f"},
            "arguments": {"type": "object", ...}}}, ...]}}`, `[]` being allowed unless it says `minItems`; perhaps with
            `x-call-token`.
        max_tokens: The reply's budget; bounds strings and the number of calls.

    Raises:
        UnsupportedSchemaError: For a schema of another form.
    """
    return _python_compiled(json.dumps(schema), max_tokens)


@lru_cache(maxsize=256)
def _compiled(schema: str, max_tokens: int) -> Grammar:
    parsed = json.loads(schema)
    compiler = SchemaCompiler(parsed.get("$defs") or parsed.get("definitions") or {}, max_tokens)
    close = close_json_calls if _is_calls(parsed) else close_json
    return Grammar(*compiler.compile(parsed), after_token(close, parsed.get(CALL_TOKEN)))


@lru_cache(maxsize=256)
def _python_compiled(schema: str, max_tokens: int) -> str:
    parsed = json.loads(schema)
    return PythonCallsCompiler(parsed.get("$defs") or parsed.get("definitions") or {}, max_tokens).compile(parsed)[0]


def _is_calls(schema: Mapping[str, Any]) -> bool:
    """Whether a schema describes a list of calls."""
    items = schema.get("items") if schema.get("type") == "array" else None
    options = items.get("anyOf", [items]) if isinstance(items, dict) else []
    return bool(options) and all({"name", "arguments"} <= set(each.get("properties", ())) for each in options)
