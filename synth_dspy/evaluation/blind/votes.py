"""Reads, merges and writes votes on blind sheets.

A vote names a position, never an arm, so that only the key can tell who won. Every vote carries the name of its study:
votes on other sheets are refused. Files of votes are JSON lines, or a `sheets.csv` that somebody filled in. Nothing in
them is ever replaced: a rater who votes again appends a line.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import BOOL, FILLED, ID, TEXT, read_rows, table_reader
from synth_dspy.core.io.reading import Json, parse_json, read_text
from synth_dspy.core.printable import visible

log = logging.getLogger("synth_dspy.evaluation.blind")

VOTES = "votes.jsonl"
"""The file of the review page's votes, in the folder of the comparison."""

Choice = int | str
"""A position, from 1, or a word."""

TIE, BOTH, NEITHER, SKIP = "tie", "both", "neither", "skip"
"""A tie is for sheets that ask which output is better; both or neither are for those that ask which are right."""
_LONGEST = 1 << 20  # bytes of a line
_CHOICES = "make it a position such as 1 or 2, or tie, or skip (both or neither where sheets ask which is right)"
_WORDS = {word: word for word in (TIE, BOTH, NEITHER, SKIP)} | {"t": TIE, "r": BOTH, "w": NEITHER, "s": SKIP}


@dataclass(frozen=True, slots=True)
class Vote:
    """A rater's choice for an item.

    Attributes:
        choice: a position on the sheet, whatever the order in which this rater saw the outputs.
        place: its file and line.
        positions: how often each position won, for a rater that saw the outputs in several orders (a judge model).
        shown: the sheet's positions in the order in which the rater saw them; None: the sheet's own.
        repeat: the item was shown again, to see whether the rater chooses the same.
    """

    study: str
    item: str
    rater: str
    choice: Choice
    place: str = ""
    positions: tuple[int, ...] | None = None
    comment: str = ""
    shown: tuple[int, ...] | None = None
    repeat: bool = False


def read_votes(path: Path) -> list[Vote]:
    """Votes of a file: JSON lines as `rate` writes them, or a `sheets.csv` whose column `choice` was filled in.

    A row without a choice is not a vote. The rater of a spreadsheet's row is the file's name by default.

    Raises:
        SetupError: the file cannot be read, or a row is not as described.
    """
    if path.suffix.lower() == ".csv":
        return _csv_votes(path)
    rows = read_rows(
        path,
        {"study": FILLED, "item": ID, "rater": FILLED, "choice": lambda v: None if parse_choice(v) else _CHOICES},
        optional={
            "positions": lambda v: None if _counts(v) else "make it a list of whole numbers",
            "comment": TEXT,
            "shown": lambda v: None if _counts(v) and sorted(v) == [*range(1, len(v) + 1)] else "make it an order",
            "repeat": BOOL,
        },
    )
    return [
        Vote(
            row["study"],
            str(row["item"]),
            visible(row["rater"]).strip(),
            parse_choice(row["choice"]) or SKIP,
            str(path),
            tuple(row["positions"]) if row.get("positions") else None,
            visible(row.get("comment") or "").strip(),
            tuple(row["shown"]) if row.get("shown") else None,
            bool(row.get("repeat")),
        )
        for row in rows
    ]


def merge(votes: Sequence[Vote]) -> tuple[list[Vote], int, list[Json]]:
    """One vote for each rater and item: the last one.

    Returns:
        The votes that count; how many others were replaced; and those replacements that changed the choice: `rater`,
        `item`, `choices` (all of them, in order).
    """
    by_item: dict[tuple[str, str], list[Vote]] = {}
    for vote in votes:
        by_item.setdefault((vote.rater, vote.item), []).append(vote)
    conflicts: list[Json] = [
        {"rater": rater, "item": item, "choices": [vote.choice for vote in cast]}
        for (rater, item), cast in by_item.items()
        if len({vote.choice for vote in cast}) > 1
    ]
    return [cast[-1] for cast in by_item.values()], len(votes) - len(by_item), conflicts


class VoteFile:
    """Appends the votes of one rater, each safe on disk before the next. Several may append to one file.

    Raises:
        SetupError: the file holds something else, or votes on other sheets.
    """

    def __init__(self, path: Path, study: str, rater: str) -> None:
        self.path, self.study, self.rater = path, study, visible(rater).strip()
        if not self.rater:
            raise SetupError("A vote needs a rater: name yourself with --rater.")
        if path.suffix.lower() == ".csv":
            raise SetupError(f"Votes are written as JSON lines, not to {path}: name a file that ends in .jsonl.")
        votes = read_whole_votes(path)
        if any(vote.study != study for vote in votes):
            raise SetupError(f"{path} holds votes on other sheets: name another file with --votes.")
        self.done = {vote.item for vote in votes if vote.rater == self.rater}

    def add(self, item: str, choice: Choice, *, at: str, **more: Any) -> None:
        """Append a vote. `at` is the time in ISO format; `more` are further fields of a `Vote`.

        Raises:
            SetupError: the file cannot be written.
        """
        row: dict[str, Any] = {"study": self.study, "item": item, "rater": self.rater, "choice": choice, "at": at}
        row |= more
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                _end_last_line(file)
                line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError as error:
            raise SetupError(f"The vote cannot be written to {self.path} ({error.strerror or error}).") from error
        self.done.add(item)


def read_whole_votes(path: Path) -> list[Vote]:
    """The votes of a file that is being appended to; none where it does not exist yet.

    Raises:
        SetupError: as `read_votes`.
    """
    if not path.is_file() or not path.stat().st_size:
        return []
    try:
        with open(path, "ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _end_last_line(file)
            return read_votes(path) if file.tell() else []
    except OSError as error:
        raise SetupError(f"{path} cannot be written to ({error.strerror or error}).") from error


def _end_last_line(file: IO[bytes]) -> None:
    """Make sure that a file's last line is whole, so that the next one does not merge with it.

    A line that an editor left without a line end gets one. A vote of which a kill or a full disk left only the
    beginning was never acknowledged, and is removed.
    """
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _LONGEST)
    file.seek(start)
    tail = file.read()
    last = tail.rpartition(b"\n")[2]
    if not last:
        return
    try:
        parse_json(last.decode())
        file.write(b"\n")
    except ValueError:
        if not b'{"study": "'.startswith(last[:11]):
            file.write(b"\n")
            return
        log.warning("half a vote was removed, whose writing was interrupted: %r", last[:200])
        file.truncate(size - len(last))
    file.seek(0, os.SEEK_END)


def parse_choice(value: Any) -> Choice | None:
    """A position or a word, as people write them ("2", `t` for tie, `s` for skip, `r` for both being right, `w` for
    neither, which are both wrong); None for anything else."""
    if isinstance(value, bool):
        return None
    text = str(value).strip().casefold()
    if text in _WORDS:
        return _WORDS[text]
    return int(text) if re.fullmatch(r"[1-9]\d{0,3}", text) else None


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)


def _csv_votes(path: Path) -> list[Vote]:
    text = read_text(path)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    rows = table_reader(text, ("study", "item", "choice"))
    missing = [name for name in ("study", "item", "choice") if name not in (rows.fieldnames or ())]
    if missing:
        raise SetupError(f"{path} has no column {missing[0]}: fill in choice in a sheets.csv and keep the others.")
    votes = []
    try:
        for row in rows:
            if not (row["choice"] or "").strip():
                continue
            place = f"{path}, line {rows.line_num}"
            choice = parse_choice(row["choice"])
            if choice is None:
                raise SetupError(f"{place}: the choice is {row['choice']!r}; {_CHOICES}.")
            rater = visible(row.get("rater") or "").strip() or path.stem
            comment = visible(row.get("comment") or "").strip()
            votes.append(
                Vote((row["study"] or "").strip(), (row["item"] or "").strip(), rater, choice, place, comment=comment)
            )
    except csv.Error as error:
        raise SetupError(f"{path}, line {rows.line_num}: is not CSV ({error}); save the table as CSV again.") from error
    if not votes:
        raise SetupError(f"{path} holds no vote: fill in its column choice.")
    return votes
