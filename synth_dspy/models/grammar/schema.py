"""The compiler from JSON schemas to grammars; `constraints.py` describes the grammars."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from synth_dspy.models.grammar import ebnf
from synth_dspy.models.grammar.ebnf import choice, literal

CALL_TOKEN = "x-call-token"  # our own keyword, in the schema of a list of calls
_BLOCK = 32  # characters per block of a bounded string: smaller ones compile faster, and cost more at every token
_TOKENS_PER_WORD = 1.6  # English prose 1.3, legal text 1.8
_LATER_FIELD_TOKENS = 24  # tokens that a bounded string reserves for each later field
_MAX_WORDS = 128  # a larger bound costs seconds to compile; such budgets are left unbounded
_WORD_STEP = 16  # bounds are rounded to multiples of it, so that near budgets share a compiled grammar
_MIN_WORDS = 8
_LEAST_CHARS, _MOST_CHARS = 64, 512  # a string's default bound inside arrays
_MAX_ITEMS = 16
_MOST_NESTED = (
    8000  # characters of all repeats of repeats in a schema's patterns: a thousand take a second or two to compile
)
_TOKENS_PER_CALL = 16


class UnsupportedSchemaError(ValueError):
    """The schema uses something this compiler cannot turn into a grammar."""


class SchemaCompiler:
    """Compiles one schema for one budget; see `constraints.py`."""

    constants: Mapping[Any, str] = {True: "true", False: "false", None: "null"}
    specials = '"\\\\'  # characters that a string escapes with a backslash
    escapes = '"\\\\" ["\\\\/nt]'

    def __init__(self, definitions: Mapping[str, Any], max_tokens: int) -> None:
        self._definitions = definitions
        self._budget = max_tokens
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}  # of rules that stand for a body, by it
        self._word_limits: dict[str, int] = {}
        self._patterns: dict[str | None, str | None] = {}
        self._nested_left = _MOST_NESTED
        self._depth = 0  # of arrays, and of maps in them, around what is compiled

    def compile(self, schema: Mapping[str, Any]) -> tuple[str, Mapping[str, int]]:
        """The grammar's text, and the word limits of top-level strings.

        Raises:
            UnsupportedSchemaError: For a schema with no grammar, naming the place.
        """
        schema = self._resolved(schema)
        self._rules["root"] = self._marked(schema)
        text = "".join(f"{name} ::= {rule}\n" for name, rule in self._rules.items())
        return text, self._word_limits

    def _marked(self, schema: Mapping[str, Any]) -> str:
        """The root rule; a non-empty list of calls begins with the call token, if there is one."""
        token, low = schema.get(CALL_TOKEN), int(schema.get("minItems", 0))
        if not token or schema.get("maxItems") == 0:
            return self._root(schema)
        called = f"{literal(token)} {self._root({**schema, 'minItems': max(1, low)})}"
        return called if low else choice([called, '"[]"'])

    def _root(self, schema: Mapping[str, Any]) -> str:
        if schema.get("properties"):
            return self._object(schema, "root", budget=self._budget)
        if schema.get("type") == "array" and "maxItems" not in schema:
            schema = {**schema, "maxItems": self._most_calls(schema)}
        return self._value(schema, "root")

    def _most_calls(self, schema: Mapping[str, Any]) -> int:
        return int(max(1, schema.get("minItems", 0), min(_MAX_ITEMS, self._budget // _TOKENS_PER_CALL)))

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """Follow a top-level `$ref`: a separate rule would hide the properties' budget."""
        if isinstance(schema, Mapping) and "$ref" in schema:
            return self._resolved(self._definitions.get(_ref_name(schema["$ref"])))
        if not isinstance(schema, Mapping):
            raise UnsupportedSchemaError(f"not a JSON schema object: {schema!r}")
        return schema

    def _rule(self, name: str, body: str) -> str:
        self._rules.setdefault(name, body)
        return name

    def _shared(self, body: str, prefix: str) -> str:
        """A rule for `body`; equal bodies share a rule."""
        if body in self._rules:  # a rule already
            return body
        if body not in self._names:
            self._names[body] = self._rule(f"{prefix}_{len(self._rules)}", body)
        return self._names[body]

    def _written(self, value: Any) -> str:
        """A constant as the model writes it."""
        return json.dumps(value, ensure_ascii=False)

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
                self._rules[rule] = ""  # placeholder: the definition may refer to itself
                self._rules[rule] = self._value(self._definitions[name], name)
            return rule
        if "const" in schema:
            return literal(self._written(schema["const"]))
        if "enum" in schema:
            return choice([literal(self._written(value)) for value in schema["enum"]])
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return choice([self._value(each, f"{where}.{key}") for each in schema[key]])
        if len(schema.get("allOf", ())) == 1:
            return self._value(schema["allOf"][0], where)
        kind = schema.get("type")
        if isinstance(kind, list):
            return choice([self._value({**schema, "type": each}, where) for each in kind])
        match kind:
            case "object":
                return self._object(schema, where)
            case "array":
                return self._array(schema, where)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, where)
            case "boolean":
                return self._rule("boolean", choice([literal(self.constants[each]) for each in (True, False)]))
            case "null":
                return literal(self.constants[None])
        raise UnsupportedSchemaError(f"{where}: cannot constrain a reply to {json.dumps(schema)[:200]}")

    def _object(self, schema: Mapping[str, Any], where: str, budget: int | None = None) -> str:
        properties = schema.get("properties") or {}
        if not properties:
            return self._map(schema, where)
        optional = set(schema.get("x-optional", ()))
        if unknown := optional - set(properties):
            raise UnsupportedSchemaError(f"{where}: x-optional names {sorted(unknown)}, which are not properties")
        members = []
        fixed = len(json.dumps(list(properties))) // 3 + 4 * len(properties)  # tokens of the names and punctuation
        for index, (name, child) in enumerate(properties.items()):
            words = self._word_bound(child, budget, fixed, len(properties) - 1 - index)
            if words is not None:
                self._word_limits[name] = words
                value = self._words(words)
            else:
                value = self._value(child, f"{where}.{name}")
            members.append((f"{self._written(name)}: ", value, name in optional))
        return f'"{{" {self._members(members)} "}}"'

    def _members(self, members: list[tuple[str, str, bool]]) -> str:
        """Members (key, value, optional) in order, with commas between those that are present."""
        several = any(optional for _, _, optional in members)  # then values are said more than once
        first, later = '""', ""  # what may stand where no member stands yet, and behind one
        for key, value, optional in reversed(members):
            if several:
                value = self._shared(value, "value")
            if optional:
                first = f"({literal(key)} {value} {later}) | {first}"
                later = self._shared(f"({literal(', ' + key)} {value})? {later}", "rest")
            else:
                first = f"{literal(key)} ({value}) {later}"
                later = f"{literal(', ' + key)} ({value}) {later}"
        return f"({first})"

    def _map(self, schema: Mapping[str, Any], where: str) -> str:
        """An object with arbitrary keys."""
        extra = schema.get("additionalProperties", True)
        if extra is False:
            return '"{}"'
        with self._nested(within_arrays=True):
            member = self._shared(f'{self._string({})} ": " ({self._value(extra, where)})', "member")
        return f'"{{" ({member} (", " {member}){self._more()})? "}}"'

    def _more(self) -> str:
        """The number of further items of a list."""
        return f"{{0,{_MAX_ITEMS - 1}}}" if self._depth else "*"

    @contextmanager
    def _nested(self, *, within_arrays: bool = False) -> Iterator[None]:
        """Inside an array; or, only if it is in an array itself, inside a map."""
        deeper = 0 if within_arrays and not self._depth else 1
        self._depth += deeper
        yield
        self._depth -= deeper

    def _word_bound(self, child: Any, budget: int | None, fixed: int, later: int) -> int | None:
        """The word limit of a top-level free string, or None if it needs none."""
        free = isinstance(child, Mapping) and child.get("type") == "string" and not {"enum", "const"} & set(child)
        if budget is None or later == 0 or not free or "maxLength" in child or self._matching(child) is not None:
            return None
        words = int((budget - fixed - later * _LATER_FIELD_TOKENS) / _TOKENS_PER_WORD)
        if words > _MAX_WORDS:
            return None
        return max(_MIN_WORDS, words // _WORD_STEP * _WORD_STEP)

    def _words(self, words: int) -> str:
        self._rule("word", f'([^ "\\\\\\x00-\\x1f] | {self.escapes})*')
        return self._rule(f"words_{words}", f'"\\"" word (" " word){{0,{words}}} "\\""')

    def _string(self, schema: Mapping[str, Any]) -> str:
        if (matching := self._matching(schema)) is not None:
            return self._shared(f'"\\"" ({matching}) "\\""', "pattern")
        self._rule("char", f'[^"\\\\\\x00-\\x1f] | {self.escapes}')
        low, high = int(schema.get("minLength", 0)), schema.get("maxLength")
        if high is None and self._depth:
            high = min(_MOST_CHARS, max(_LEAST_CHARS, self._budget // _BLOCK * _BLOCK))
            if self._depth > 1:
                high = high // 2 // _BLOCK * _BLOCK
        if high is None and low == 0:
            return self._rule("string", '"\\"" char* "\\""')
        if high is None:
            return self._rule(f"string_{low}_", f'"\\"" char{{{low}}} char* "\\""')
        high = max(int(high), low)
        if high <= _BLOCK or low:
            return self._rule(f"string_{low}_{high}", f'"\\"" char{{{low},{high}}} "\\""')
        self._rule("block", f"char{{{_BLOCK}}}")
        whole, rest = divmod(high, _BLOCK)
        self._rule("tail", f"char{{0,{_BLOCK - 1}}}")
        # Either some blocks and a short tail, or all the blocks and what is left.
        body = f"block{{0,{whole - 1}}} tail | block{{{whole}}} char{{0,{rest}}}"
        return self._rule(f"string_{low}_{high}", f'"\\"" ({body}) "\\""')

    def _matching(self, schema: Mapping[str, Any]) -> str | None:
        """The inside of a string with a pattern or format; None if it has none, or one without a grammar."""
        regex = schema.get("pattern") or ebnf.FORMATS.get(str(schema.get("format")))
        if regex not in self._patterns:
            written = ebnf.pattern(regex, self.specials) if regex else None
            size = ebnf.nested_size(written or "")
            self._patterns[regex] = written if size <= self._nested_left else None
            self._nested_left -= size if size <= self._nested_left else 0
        return self._patterns[regex]

    def _number(self, schema: Mapping[str, Any], where: str) -> str:
        whole = schema["type"] == "integer"
        try:
            low, high = _bound(schema, "Minimum", whole), _bound(schema, "Maximum", -whole)
            body = ebnf.integers(low, high) if whole else ebnf.numbers(low, high)
        except (TypeError, ValueError) as error:
            raise UnsupportedSchemaError(f"{where}: {error}") from error
        return self._shared(body, str(schema["type"]))

    def _array(self, schema: Mapping[str, Any], where: str) -> str:
        with self._nested():
            if "prefixItems" in schema:
                items = [self._value(each, f"{where}[{i}]") for i, each in enumerate(schema["prefixItems"])]
                return " ".join(['"["', ' ", " '.join(f"({item})" for item in items), '"]"'])
            name = self._shared(self._value(schema.get("items", True), f"{where}[]"), "item")
        low, high = int(schema.get("minItems", 0)), schema.get("maxItems")
        if high is None and self._depth:
            high = max(low, _MAX_ITEMS)
        if high == 0:
            return '"[]"'
        more = f'(", " {name}){{{max(0, low - 1)},{"" if high is None else int(high) - 1}}}'
        return f'"[" {name} {more} "]"' if low else f'"[" ({name} {more})? "]"'

    def _any(self) -> str:
        """A value of any type; inside arrays without nested lists."""
        name = f"any_{min(self._depth, 2)}" if self._depth else "any"
        if name not in self._rules:
            self._rules[name] = ""  # placeholder: values may be nested
            kinds: list[dict[str, Any]] = [{"type": t} for t in ("string", "number", "boolean", "null")]
            scalars = [self._value(kind, name) for kind in kinds]
            item, string, more = name, scalars[0], self._more()
            if self._depth:
                item = self._shared(choice(scalars), "scalar")
            nested = [
                f'"[" ({item} (", " {item}){more})? "]"',
                f'"{{" ({string} ": " {item} (", " {string} ": " {item}){more})? "}}"',
            ]
            self._rules[name] = choice([*scalars, *nested])
        return name


def _bound(schema: Mapping[str, Any], name: str, step: int) -> float | None:
    """A number's bound; an exclusive one (a number, or OpenAPI's flag beside the bound) `step` further in."""
    bound: float | None = schema.get(name.lower())
    exclusive = schema.get(f"exclusive{name}", False)
    if exclusive is True:
        return None if bound is None else bound + step
    return bound if exclusive is False else float(exclusive) + step


def _ref_name(ref: str) -> str:
    return ref.rsplit("/", 1)[-1]
