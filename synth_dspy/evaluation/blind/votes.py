"""Reads, merges and writes votes on blind sheets.

A vote names a position, never an arm, so that only the key can tell who won. Every vote carries the name of its study:
votes on other sheets are refused. Files of votes are JSON lines, or a `sheets.csv` that somebody filled in.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, ID, read_rows
from synth_dspy.core.io.reading import Json, read_text
from synth_dspy.core.printable import visible

Choice = int | str
"""A position, from 1, or `tie`, or `skip`."""

TIE, SKIP = "tie", "skip"
_CHOICES = "make it a position such as 1 or 2, or tie, or skip"


@dataclass(frozen=True, slots=True)
class Vote:
    """A rater's choice for an item. `place` is its file and line.

    `positions` is how often each position won, for a rater that saw the outputs in several orders (a judge model).
    """

    study: str
    item: str
    rater: str
    choice: Choice
    place: str = ""
    positions: tuple[int, ...] | None = None


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
        optional={"positions": lambda v: None if _counts(v) else "make it a list of whole numbers"},
    )
    return [
        Vote(
            row["study"],
            str(row["item"]),
            visible(row["rater"]).strip(),
            parse_choice(row["choice"]) or SKIP,
            str(path),
            tuple(row["positions"]) if row.get("positions") else None,
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
    """Appends the votes of one rater, each safe on disk before the next.

    Raises:
        SetupError: the file holds something else, or votes on other sheets.
    """

    def __init__(self, path: Path, study: str, rater: str) -> None:
        self.path, self.study, self.rater = path, study, visible(rater).strip()
        if not self.rater:
            raise SetupError("A vote needs a rater: name yourself with --rater.")
        if path.suffix.lower() == ".csv":
            raise SetupError(f"Votes are written as JSON lines, not to {path}: name a file that ends in .jsonl.")
        votes = read_votes(path) if path.is_file() and path.stat().st_size else []
        if any(vote.study != study for vote in votes):
            raise SetupError(f"{path} holds votes on other sheets: name another file with --votes.")
        self.done = {vote.item for vote in votes if vote.rater == self.rater}

    def add(self, item: str, choice: Choice, *, at: str, positions: Sequence[int] | None = None) -> None:
        """Append a vote. `at` is the time in ISO format.

        Raises:
            SetupError: the file cannot be written.
        """
        row: dict[str, Any] = {"study": self.study, "item": item, "rater": self.rater, "choice": choice, "at": at}
        if positions is not None:
            row["positions"] = list(positions)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+") as file:
                # A last line without a line end, from a full disk or an editor, would merge with this vote.
                if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SetupError(f"The vote cannot be written to {self.path} ({error.strerror or error}).") from error
        self.done.add(item)


def parse_choice(value: Any) -> Choice | None:
    """A position, `tie` or `skip`, as people write them (`t`, `s`, "2"); None for anything else."""
    if isinstance(value, bool):
        return None
    text = str(value).strip().casefold()
    if text in (TIE, "t"):
        return TIE
    if text in (SKIP, "s"):
        return SKIP
    return int(text) if re.fullmatch(r"[1-9]\d{0,3}", text) else None


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)


def _csv_votes(path: Path) -> list[Vote]:
    text = read_text(path)
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)  # some spreadsheets save with another than they were given
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
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
            votes.append(Vote((row["study"] or "").strip(), (row["item"] or "").strip(), rater, choice, place))
    except csv.Error as error:
        raise SetupError(f"{path}, line {rows.line_num}: is not CSV ({error}); save the table as CSV again.") from error
    if not votes:
        raise SetupError(f"{path} holds no vote: fill in its column choice.")
    return votes
