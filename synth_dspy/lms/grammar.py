"""JSON schema to grammar: what constrained decoding lets the model write, and nothing it can waste its budget on.

A JSON schema allows white space anywhere, and a weak model can fill its whole budget with it. The grammar made here
is a subset of the schema's language: fixed separators (`{"a": 1, "b": [true]}`, as `json.dumps` writes), every
property present and in the schema's order, no white space besides, no `\\u` escapes (they can spell lone surrogates),
numbers of bounded length. Strings that a later field waits for are bounded in words, so that one that runs away
leaves room for the rest. A schema's `maxLength` is kept exactly.

The dialect is the EBNF of xgrammar, which OpenVINO GenAI compiles. Bounds are cheap only in the forms used here:
repeating a character class 400 times took 10 s to compile, the same in blocks of 32 half a second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CHAR = r'[^"\\\x00-\x1f] | "\\" ["\\/nt]'
_WORD_CHAR = r'[^ "\\\x00-\x1f] | "\\" ["\\/nt]'
_BLOCK = 32  # characters per block of a bounded string
_TOKENS_PER_WORD = 1.6  # English prose 1.3, legal text 1.8
_LATER_FIELD_TOKENS = 24  # what a bounded string leaves for each field after it
_MAX_WORDS = 128  # a larger bound costs seconds to compile; such budgets are left unbounded
_WORD_STEP = 16  # bounds are rounded to multiples of it, so that near budgets share a compiled grammar
_MIN_WORDS = 8


class UnsupportedSchemaError(ValueError):
    """The schema uses something this compiler cannot turn into a grammar."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """A compiled schema. `word_limits` names the top-level strings bounded here, not by the schema itself."""

    ebnf: str
    word_limits: Mapping[str, int]


def from_response_format(response_format: Mapping[str, Any], max_tokens: int) -> Grammar:
    """The grammar of an lm15 `Config.response_format`: `json_object` or `json_schema`.

    Args:
        response_format: `{"type": "json_object"}` or `{"type": "json_schema", "schema": {...}}`.
        max_tokens: The reply's budget; bounds strings that would starve the fields after them.

    Raises:
        UnsupportedSchemaError: For a schema with no grammar, naming the place.
    """
    if response_format.get("type") == "json_object":
        return _Compiler({}).compile({"type": "object", "additionalProperties": True}, max_tokens)
    schema = response_format["schema"]
    return _Compiler(schema.get("$defs") or schema.get("definitions") or {}).compile(schema, max_tokens)


class _Compiler:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions
        self._rules: dict[str, str] = {}
        self._word_limits: dict[str, int] = {}

    def compile(self, schema: Mapping[str, Any], max_tokens: int) -> Grammar:
        schema = self._resolved(schema)
        if schema.get("properties"):
            body = self._object(schema, "root", budget=max_tokens)
        else:
            body = self._value(schema, "root")
        self._rules["root"] = body
        text = "".join(f"{name} ::= {rule}\n" for name, rule in self._rules.items())
        return Grammar(text, self._word_limits)

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """Follow `$ref` at the top, where a rule of its own would hide the properties' budget."""
        if isinstance(schema, Mapping) and "$ref" in schema:
            return self._resolved(self._definitions.get(_ref_name(schema["$ref"])))
        if not isinstance(schema, Mapping):
            raise UnsupportedSchemaError(f"not a JSON schema object: {schema!r}")
        return schema

    def _rule(self, name: str, body: str) -> str:
        self._rules.setdefault(name, body)
        return name

    def _value(self, schema: Any, where: str) -> str:
        if schema is True or schema == {}:
            return self._any()
        if not isinstance(schema, Mapping):
            raise UnsupportedSchemaError(f"{where}: no value satisfies {schema!r}")
        if "$ref" in schema:
            name = _ref_name(schema["$ref"])
            if name not in self._definitions:
                raise UnsupportedSchemaError(f"{where}: {schema['$ref']!r} is not defined in the schema")
            rule = "def_" + "".join(c if c.isalnum() else "_" for c in name)
            if rule not in self._rules:
                self._rules[rule] = ""  # holds the place: the definition may refer to itself
                self._rules[rule] = self._value(self._definitions[name], name)
            return rule
        if "const" in schema:
            return _literal(json.dumps(schema["const"], ensure_ascii=False))
        if "enum" in schema:
            return _choice([_literal(json.dumps(value, ensure_ascii=False)) for value in schema["enum"]])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return _choice([self._value(each, f"{where}.{key}") for each in schema[key]])
        if len(schema.get("allOf", ())) == 1:
            return self._value(schema["allOf"][0], where)
        kind = schema.get("type")
        if isinstance(kind, list):
            return _choice([self._value({**schema, "type": each}, where) for each in kind])
        match kind:
            case "object":
                return self._object(schema, where)
            case "array":
                return self._array(schema, where)
            case "string":
                return self._string(schema)
            case "integer":
                return self._rule("integer", '"-"? ("0" | [1-9] [0-9]{0,15})')
            case "number":
                self._value({"type": "integer"}, where)
                return self._rule("number", 'integer ("." [0-9]{1,8})?')
            case "boolean":
                return self._rule("boolean", '"true" | "false"')
            case "null":
                return '"null"'
        raise UnsupportedSchemaError(f"{where}: cannot constrain a reply to {json.dumps(schema)[:200]}")

    def _object(self, schema: Mapping[str, Any], where: str, budget: int | None = None) -> str:
        properties = schema.get("properties") or {}
        if not properties:
            extra = schema.get("additionalProperties", True)
            if extra is False:
                return '"{}"'
            member = self._rule(f"member_{len(self._rules)}", f'{self._string({})} ": " ({self._value(extra, where)})')
            return f'"{{" ({member} (", " {member})*)? "}}"'
        parts = []
        fixed = len(json.dumps(list(properties))) // 3 + 4 * len(properties)  # tokens of the names and punctuation
        for index, (name, child) in enumerate(properties.items()):
            opening = ("{" if index == 0 else ", ") + json.dumps(name, ensure_ascii=False) + ": "
            words = self._word_bound(child, budget, fixed, len(properties) - 1 - index)
            if words is not None:
                self._word_limits[name] = words
                value = self._words(words)
            else:
                value = self._value(child, f"{where}.{name}")
            parts.append(f"{_literal(opening)} ({value})")
        return " ".join([*parts, '"}"'])

    def _word_bound(self, child: Any, budget: int | None, fixed: int, later: int) -> int | None:
        """Words a top-level free string may take, or None where it needs no bound from here."""
        free = isinstance(child, Mapping) and child.get("type") == "string" and not {"enum", "const"} & set(child)
        if budget is None or later == 0 or not free or "maxLength" in child:
            return None
        words = int((budget - fixed - later * _LATER_FIELD_TOKENS) / _TOKENS_PER_WORD)
        if words > _MAX_WORDS:
            return None
        return max(_MIN_WORDS, words // _WORD_STEP * _WORD_STEP)

    def _words(self, words: int) -> str:
        self._rule("word", f"({_WORD_CHAR})*")
        return self._rule(f"words_{words}", f'"\\"" word (" " word){{0,{words}}} "\\""')

    def _string(self, schema: Mapping[str, Any]) -> str:
        self._rule("char", _CHAR)
        low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
        if high is None and low == 0:
            return self._rule("string", '"\\"" char* "\\""')
        if high is None:
            return self._rule(f"string_{low}_", f'"\\"" char{{{low}}} char* "\\""')
        high = max(int(high), low)
        if high <= _BLOCK or low:
            return self._rule(f"string_{low}_{high}", f'"\\"" char{{{low},{high}}} "\\""')
        self._rule("block", f"char{{{_BLOCK}}}")
        whole, rest = divmod(high, _BLOCK)
        # Either some blocks and a short tail, or all the blocks and what is left.
        body = f"block{{0,{whole - 1}}} char{{0,{_BLOCK - 1}}} | block{{{whole}}} char{{0,{rest}}}"
        return self._rule(f"string_{low}_{high}", f'"\\"" ({body}) "\\""')

    def _array(self, schema: Mapping[str, Any], where: str) -> str:
        if "prefixItems" in schema:
            items = [self._value(each, f"{where}[{i}]") for i, each in enumerate(schema["prefixItems"])]
            return " ".join(['"["', ' ", " '.join(f"({item})" for item in items), '"]"'])
        name = self._rule(f"item_{len(self._rules)}", self._value(schema.get("items", True), f"{where}[]"))
        low, high = int(schema.get("minItems", 0)), schema.get("maxItems")
        if high == 0:
            return '"[]"'
        more = f'(", " {name}){{{max(0, low - 1)},{"" if high is None else int(high) - 1}}}'
        return f'"[" {name} {more} "]"' if low else f'"[" ({name} {more})? "]"'

    def _any(self) -> str:
        if "any" not in self._rules:
            self._rules["any"] = ""  # holds the place: any value may hold any value
            kinds: list[dict[str, Any]] = [{"type": t} for t in ("string", "number", "boolean", "null")]
            scalars = [self._value(kind, "any") for kind in kinds]
            nested = [
                '"[" (any (", " any)*)? "]"',
                '"{" (string ": " any (", " string ": " any)*)? "}"',
            ]
            self._rules["any"] = _choice([*scalars, *nested])
        return "any"


def close_json(text: str) -> str | None:
    """The shortest JSON value that a cut-off reply can be read as, or None where there is none.

    Open strings, arrays and objects are closed, and a member whose value had not begun is dropped. Nothing is made
    up: fields that were not reached stay missing, for the reader to notice.
    """
    stack: list[str] = []
    in_string = escaped = False
    safe: list[tuple[int, str]] = []  # (length, closers): prefixes of `text` that closers make whole
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
        elif char in "{[":
            stack.append("}" if char == "{" else "]")
            safe.append((position + 1, "".join(reversed(stack))))
        elif char in "}]" and stack:
            stack.pop()
            safe.append((position + 1, "".join(reversed(stack))))
        elif char == ",":
            safe.append((position, "".join(reversed(stack))))
    ending = "".join(reversed(stack))
    candidates = [(text[:-1] if escaped else text) + ('"' if in_string else "") + ending]
    candidates += [text[:length] + closers for length, closers in reversed(safe)]
    for candidate in candidates:
        try:
            json.loads(candidate)
        except ValueError:
            continue
        return candidate
    return None


def _ref_name(ref: str) -> str:
    return ref.rsplit("/", 1)[-1]


def _literal(text: str) -> str:
    """`text` as an EBNF string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _choice(options: list[str]) -> str:
    return "(" + " | ".join(f"({option})" for option in options) + ")" if len(options) > 1 else options[0]
