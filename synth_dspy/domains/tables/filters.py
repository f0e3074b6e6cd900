"""What a generated row must pass: its statement runs, its comment is one, is true, and says more than the name."""

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
    """The statement parses and creates its table in an empty DuckDB; the reason says which of the two failed."""

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
        said = tokens(comment)
        if not SHORTEST <= len(said) <= LONGEST:
            return rejected("too short or too long")
        if _CHATTER.search(comment):
            return rejected("not a comment")
        counts = Counter(word for word in said if len(word) > 4)
        phrases = Counter(zip(said, said[1:], said[2:], strict=False))
        again = max(counts.values(), default=0) > 2 or max(phrases.values(), default=0) > 1
        if again or any(a == b for a, b in pairwise(said)):
            return rejected("repeats itself")
        return KEPT


class SaysMore:
    """Says more than the name does: a content word at least that is no word of the name, written out or abbreviated."""

    name = "says more than the name"

    def __call__(self, candidate: Candidate) -> Verdict:
        if repeats_name(str(candidate.fields["comment"]), str(candidate.fields["focus"])):
            return rejected("repeats the name")
        return KEPT


class NothingInvented:
    """Names no column or table that is not there, and no number that the meaning does not give."""

    name = "nothing invented"

    def __call__(self, candidate: Candidate[TableUnit]) -> Verdict:
        comment, made = str(candidate.fields["comment"]), candidate.unit.made
        known = [*candidate.fields["names"], *(column.references for column in made.table.columns)]
        if strange := invented_names(comment, known):
            return rejected(f"name from nowhere: {', '.join(strange)}")
        meaning = made.meanings.get(_focus(candidate))
        if meaning is not None and (strange := sorted(numbers(comment) - numbers(meaning))):
            return rejected(f"number from nowhere: {', '.join(strange)}")
        return KEPT


class Means:
    """Says what the column means, where that is known, and nothing besides.

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
        known = {*content(meaning), *content(made.use), *words(str(candidate.fields["focus"])), *words(made.table.name)}
        said = content(comment)
        strange = [word for word in said if not any(word == one or _same(word, one) for one in known)]
        if len(strange) > self.strangers * len(said):
            return rejected(f"words from nowhere: {', '.join(strange)}")
        one, other = self.embed([comment, meaning])
        similar = min(1.0, max(0.0, float(one @ other)))
        return Verdict(similar >= self.least, similar, "" if similar >= self.least else "says something else")


class Identifies:
    """The reverse query: the comment must lead back to its column among all columns of the table.

    Args:
        embed: texts to unit vectors.
        among: how far down the ranking its own column may stand.
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
    """Keeps the first of equal comments on equal names: houses differ, but `created_at` is `created_at`.

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
    said = [word for word in content(comment) if word not in ("column", "field", "table")]
    return all(word in ours or abbreviated(word) in ours or any(_same(word, own) for own in ours) for word in said)


def invented_names(comment: str, known: Collection[str]) -> list[str]:
    """What in a comment looks like an identifier, and is none of the table's or of a table it refers to."""
    parts = {part.lower() for name in known for part in (name, *name.split("."))}
    return [name for name in _IDENTIFIER.findall(comment) if name.lower() not in parts]


def _same(word: str, own: str) -> bool:
    """The same word but for its ending."""
    return min(len(word), len(own)) >= 4 and (word.startswith(own) or own.startswith(word))


def _focus(candidate: Candidate) -> str:
    focus = str(candidate.fields["focus"])
    return WHOLE if candidate.category == "table" else focus


@lru_cache(maxsize=1024)
def _outcome(ddl: str, dialect: str) -> tuple[str, str]:
    """What is wrong with a statement: the kind and the message; empty where it runs."""
    try:
        parse_table(ddl, dialect)
        run_in_duckdb(ddl, dialect)
    except DdlError as error:
        return error.kind, str(error).partition(": ")[2]
    return "", ""
