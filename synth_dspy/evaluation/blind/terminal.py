"""Shows raters one item at a time on the terminal, and reads their choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from synth_dspy.core.printable import visible
from synth_dspy.evaluation.blind.sheets import RIGHT, unfit_words
from synth_dspy.evaluation.blind.votes import VoteFile, parse_choice


def ask(
    rows: Sequence[Mapping[str, Any]], votes: VoteFile, *, total: int, read: Callable[[str], str], console: Console
) -> int:
    """Show one item after another and write each choice at once; `q` or the end of the input stops.

    Args:
        rows: rows of a sheet.
        votes: the file of votes.
        total: items on the sheet.
        read: prompts for a line, such as `input`; EOFError ends the rating.
        console: where the items are shown.

    Returns:
        The number of rows without a vote.
    """
    for number, row in enumerate(rows):
        n = len(row["outputs"])
        console.print(Rule(Text(f"{total - len(rows) + number + 1} of {total}")))
        console.print(Text(visible(row["question"]), style="bold"))
        if row["references"]:
            console.print(Text("accepted: " + visible(" | ".join(row["references"])), style="dim"))
        for i, output in enumerate(row["outputs"], start=1):
            console.print(Text(f"\n[{i}]", style="bold cyan"))
            console.print(Text(visible(output)))
        numbers = "/".join(map(str, range(1, n + 1)))
        asks_right = row.get("asks") == RIGHT
        question = (
            f"Which is right? {numbers} (that one alone), r (both right), w (both wrong)"
            if asks_right
            else f"Which is better? {numbers}, t (tie)"
        )
        while True:
            try:
                answer = read(f"\n{question}, s (skip), q (quit): ").strip()
            except EOFError:
                return len(rows) - number
            if answer.casefold() in ("q", "quit"):
                return len(rows) - number
            choice = parse_choice(answer)
            if choice is not None and choice not in unfit_words(row) and (isinstance(choice, str) or choice <= n):
                votes.add(str(row["item"]), choice, at=datetime.now(UTC).isoformat(timespec="seconds"))
                break
            console.print(Text(f"Type {numbers}, {'r, w' if asks_right else 't'}, s or q."))
    return 0
