"""Rules in plain text, each with automatic checks of an answer.

A file of rules is Markdown: a second-level heading names a rule, the sentence below it is for the model, and the lines
that begin with `- never:`, `- always:` or `- words:` are its checks: a regular expression (between backticks, ignoring
case) that an answer must not or must match, and the most words it may have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_text

_CHECK = re.compile(r"^-\s*(?P<kind>[a-z]+):\s*(?P<value>.+?)\s*$")
_MATCH_S = 0.5
_QUOTES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: its name in reports.
        text: the sentence for the model.
        never: patterns (`regex.Pattern`) that an answer must not match.
        always: patterns that it must match.
        words: the most words of an answer; None means no limit.
    """

    id: str
    text: str
    never: tuple[Any, ...] = ()
    always: tuple[Any, ...] = ()
    words: int | None = None

    @property
    def checked(self) -> bool:
        """Whether it has automatic checks; else only a model can judge it."""
        return bool(self.never or self.always or self.words)

    def broken_by(self, answer: str) -> bool:
        """Whether an answer breaks the rule, by its automatic checks. An empty answer breaks none.

        Raises:
            SetupError: a pattern of the rule takes too long.
        """
        text = answer.translate(_QUOTES)
        if not text.strip():
            return False
        try:
            return (
                any(pattern.search(text, timeout=_MATCH_S) for pattern in self.never)
                or not all(pattern.search(text, timeout=_MATCH_S) for pattern in self.always)
                or (self.words is not None and len(text.split()) > self.words)
            )
        except TimeoutError:
            raise SetupError(
                f"A pattern of the rule {self.id!r} takes too long to match an answer of {len(text):,} characters: "
                "write it without alternatives or repetitions inside a repetition."
            ) from None


def violations(answer: str, rules: Sequence[Rule]) -> list[str]:
    """The ids of the rules that an answer breaks, in their order."""
    return [rule.id for rule in rules if rule.broken_by(answer)]


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of a file.

    Raises:
        SetupError: the file cannot be read or has no rules, or a rule is malformed; names the file and line.
    """
    lines = read_text(path, "The rules").splitlines()
    rules: list[Rule] = []
    start, name, body = 0, "", list[tuple[int, str]]()
    for number, line in [*enumerate(lines, start=1), (len(lines) + 1, "## ")]:
        if not line.startswith("## "):
            body.append((number, line.strip()))
            continue
        if name:
            rules.append(_rule(path, start, name, body))
        start, name, body = number, line[3:].strip(), []
    if not rules:
        raise SetupError(f"{path} has no rules: write each below a heading like `## no-promises`.")
    names = [rule.id for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SetupError(f"{path} has two rules named {twice[0]!r}; give each its own name.")
    return tuple(rules)


def _rule(path: Path, start: int, name: str, body: Sequence[tuple[int, str]]) -> Rule:
    text = " ".join(line for _, line in body if line and not line.startswith("- "))
    if not text:
        raise SetupError(f"{path}, line {start}: the rule {name!r} says nothing; write its sentence below the heading.")
    never: list[Any] = []
    always: list[Any] = []
    words: int | None = None
    for number, line in body:
        if not line.startswith("- "):
            continue
        place = f"{path}, line {number}"
        match = _CHECK.match(line)
        kind, value = (match["kind"], match["value"]) if match else ("", "")
        if kind in ("never", "always"):
            (never if kind == "never" else always).append(_pattern(value, place))
        elif kind == "words" and re.fullmatch("[1-9][0-9]{0,5}", value):
            words = int(value)
        else:
            raise SetupError(
                f"{place}: {line[:60]!r} is not a check: use `- never: PATTERN`, `- always: PATTERN` or `- words: 45`."
            )
    return Rule(name, text, tuple(never), tuple(always), words)


def _pattern(value: str, place: str) -> Any:
    fence = re.match(r"`+", value)
    ticks = fence[0] if fence else ""
    if ticks and value.endswith(ticks) and len(value) > 2 * len(ticks):
        value = value[len(ticks) : -len(ticks)].strip()
    try:
        return regex.compile(value, regex.IGNORECASE)  # like `re`, with a timeout
    except (regex.error, OverflowError, RecursionError) as error:
        raise SetupError(
            f"{place}: the pattern {value[:60]!r} is not a regular expression ({error}); correct it."
        ) from error
