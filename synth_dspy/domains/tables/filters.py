"""Filters for generated rows: the statement runs, and the comment is well written, true and more than the name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise

from synth_dspy.core.knowledge import KEPT, Candidate, Verdict, rejected
from synth_dspy.core.protocols import Embed
from synth_dspy.domains.tables.ddl import DdlError, parse_table, run_in_duckdb
from synth_dspy.domains.tables.naming import abbreviated
from synth_dspy.domains.tables.schema import WHOLE, foci, words
from synth_dspy.domains.tables.units import TableUnit
from synth_dspy.synthesis.text import content, numbers, tokens

_IDENTIFIER = re.compile(r"\b(?:[A-Za-z]+_\w+|[a-z]+[A-Z]\w*|[A-Z][a-z]+[A-Z]\w*)\b")
_CHATTER = re.compile(
    r"^(?:sure|here|certainly|the (?:following|comment)|column|table|meaning|note)\b|\?$|```|\bcreate table\b|[:;,]$",
    re.I,
)
SHORTEST, LONGEST = 2, 30


class Runs:
    """The statement parses and creates its table in an empty DuckDB; the reason says which of them failed."""

    name = "runs"

    def __call__(self, candidate: Candidate[TableUnit]) -> Verdict:
        made = candidate.unit.made
        if not made.ddl:  # a table that exists already
            return KEPT
        kind, message = _outcome(made.ddl, made.table.dialect)
        return rejected(f"{kind}: {message}") if kind else KEPT


class WellWritten:
    """One short phrase or a sentence or two, no chatter, no repetition."""

    name = "well written"

    def __call__(self, candidate: Candidate) -> Verdict:
        comment = str(candidate.fields["comment"])
        stated = tokens(comment)
        if not SHORTEST <= len(stated) <= LONGEST:
            return rejected("too short or too long")
        if _CHATTER.search(comment):
            return rejected("not a comment")
        counts = Counter(word for word in stated if len(word) > 4)
        phrases = Counter(zip(stated, stated[1:], stated[2:], strict=False))
        again = max(counts.values(), default=0) > 2 or max(phrases.values(), default=0) > 1
        if again or any(a == b for a, b in pairwise(stated)):
            return rejected("repeats itself")
        return KEPT


class SaysMore:
    """The comment has a content word that is not a word of the name, written out or abbreviated."""

    name = "says more than the name"

    def __call__(self, candidate: Candidate) -> Verdict:
        if repeats_name(str(candidate.fields["comment"]), str(candidate.fields["focus"])):
            return rejected("repeats the name")
        return KEPT


class NothingInvented:
    """The comment names no unknown column or table and, where the meaning is known, no number that is not in it.

    Whether its other words are true, this does not check; `Means` does, where the meaning is known.
    """

    name = "no names invented"

    def __call__(self, candidate: Candidate[TableUnit]) -> Verdict:
        comment, made = str(candidate.fields["comment"]), candidate.unit.made
        familiar = [*candidate.fields["names"], *(column.references for column in made.table.columns)]
        if strange := invented_names(comment, familiar):
            return rejected(f"invented name: {', '.join(strange)}")
        meaning = made.meanings.get(_focus(candidate))
        if meaning is not None and (strange := sorted(numbers(comment) - numbers(meaning))):
            return rejected(f"invented number: {', '.join(strange)}")
        return KEPT


class Means:
    """The comment says what the column means, where that is known, and nothing else.

    Args:
        embed: texts to unit vectors.
        least: cosine similarity of comment and meaning below which the comment says something else.
        strangers: share of the comment's content words that may be neither in the meaning nor in a name.
    """

    name = "true to its meaning"

    def __init__(self, embed: Embed, least: float = 0.7, strangers: float = 0.25) -> None:
        self.embed = embed
        self.least = least
        self.strangers = strangers

    def __call__(self, candidate: Candidate[TableUnit]) -> Verdict:
        made, comment = candidate.unit.made, str(candidate.fields["comment"])
        meaning = made.meanings.get(_focus(candidate))
        if meaning is None:
            return KEPT
        familiar = {
            *content(meaning),
            *content(made.use),
            *words(str(candidate.fields["focus"])),
            *words(made.table.name),
        }
        stated = content(comment)
        strange = [word for word in stated if not any(word == one or _same(word, one) for one in familiar)]
        if len(strange) > self.strangers * len(stated):
            return rejected(f"invented words: {', '.join(strange)}")
        one, other = self.embed([comment, meaning])
        similar = min(1.0, max(0.0, float(one @ other)))
        return Verdict(similar >= self.least, similar, "" if similar >= self.least else "says something else")


class Identifies:
    """The reverse query: among all columns of the table, the comment must lead to its own.

    Args:
        embed: from texts to unit vectors.
        among: lowest rank allowed for its own column.
    """

    name = "reverse query"

    def __init__(self, embed: Embed, among: int = 3) -> None:
        self.embed = embed
        self.among = among
        self._columns = lru_cache(maxsize=256)(lambda texts: self.embed(texts))  # several comments are on one table

    def __call__(self, candidate: Candidate[TableUnit]) -> Verdict:
        made, focus = candidate.unit.made, _focus(candidate)
        if focus == WHOLE:
            return KEPT
        names = [name for name in foci(made.table) if name != WHOLE]
        texts = [f"{' '.join(words(name))}: {made.meanings.get(name, '')}".rstrip(": ") for name in names]
        near = self._columns(tuple(texts)) @ self.embed([str(candidate.fields["comment"])])[0]
        rank = int((near > near[names.index(focus)]).sum())
        return Verdict(rank < self.among, 1 / (1 + rank), "" if rank < self.among else "fits other columns better")


class SaidAlready:
    """Keeps the first of equal comments on equal names, such as `created_at` in every database.

    Depends on the order; call it from one thread.
    """

    name = "said already"
    ordered = True

    def __init__(self) -> None:
        self._seen: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()

    def __call__(self, candidate: Candidate) -> Verdict:
        key = tokens(str(candidate.fields["comment"])), tuple(words(str(candidate.fields["focus"])))
        if key in self._seen:
            return rejected("said already")
        self._seen.add(key)
        return KEPT


def repeats_name(comment: str, name: str) -> bool:
    """Whether a comment's content words are all words of the name, whole or abbreviated."""
    ours = {form for word in words(name) for form in (word, *content(word))}
    stated = [word for word in content(comment) if word not in ("column", "field", "table")]
    return all(word in ours or abbreviated(word) in ours or any(_same(word, own) for own in ours) for word in stated)


def invented_names(comment: str, familiar: Collection[str]) -> list[str]:
    """Words of a comment that look like identifiers and are not among `familiar` names."""
    parts = {part.lower() for name in familiar for part in (name, *name.split("."))}
    return [name for name in _IDENTIFIER.findall(comment) if name.lower() not in parts]


def _same(word: str, own: str) -> bool:
    """Whether two words differ in their endings only."""
    return min(len(word), len(own)) >= 4 and (word.startswith(own) or own.startswith(word))


def _focus(candidate: Candidate) -> str:
    focus = str(candidate.fields["focus"])
    return WHOLE if candidate.category == "table" else focus


@lru_cache(maxsize=1024)
def _outcome(ddl: str, dialect: str) -> tuple[str, str]:
    """The kind and message of a statement's error; empty if it runs."""
    try:
        parse_table(ddl, dialect)
        run_in_duckdb(ddl, dialect)
    except DdlError as error:
        return error.kind, str(error).partition(": ")[2]
    return "", ""
