"""A blind comparison that several people vote on at once: who sees which item next, in which order, and their votes.

Every vote is a line of `votes.jsonl` in the comparison's folder before it is acknowledged, and who has seen what is
read from there: nothing else is kept, so a review that is killed goes on where it was. `synth-dspy blind rate` and
`report` take the same file.

Raters get the items with the fewest votes first, in an order of their own, and every rater sees an item's outputs in an
order drawn for that rater; the vote records it. Some items come back later with the outputs in another order: how often
a rater then chooses the same shows how far that rater's votes can be trusted.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock

from synth_dspy.core.io.reading import Json
from synth_dspy.evaluation.blind.sheets import KEY, RIGHT, read_key, read_sheet, unfit_words
from synth_dspy.evaluation.blind.tally import check_votes, tally_votes
from synth_dspy.evaluation.blind.votes import SKIP, VOTES, Choice, Vote, VoteFile, read_whole_votes

RATERS = "raters"
"""In a key: the votes that each item is to get."""
_TWO = 2
REPEATED = 10
"""One item in so many comes back, by default."""
_APART = 5
"""At least so many turns lie between an item and its repeat."""

_Shown = tuple[str, bool]
"""An item, and whether it is shown for the second time."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What a rater is shown. Nothing in it says whose the outputs are, or that an item has been shown before.

    Attributes:
        number: from 1, as this rater counts.
        token: names the turn in a form.
        choice: what the rater chose, a position in `outputs` or a word; None before that.
    """

    number: int
    token: str
    question: str
    references: tuple[str, ...]
    outputs: tuple[str, ...]
    passages: tuple[str, ...]
    choice: Choice | None
    comment: str


class Review:
    """A comparison under review. May be used from several threads.

    Args:
        folder: of the comparison.
        raters: votes that each item is to get; skipped items do not count. None: as the key says, else two.
        repeats: items that are shown to a rater twice; None: one in `REPEATED`.

    Raises:
        SetupError: the folder holds no comparison, its files are damaged, or it holds votes on other sheets.
    """

    def __init__(self, folder: Path, raters: int | None = None, repeats: int | None = None) -> None:
        self.folder = folder
        self._rows = {str(row["item"]): row for row in read_sheet(folder)}
        self._key = read_key(folder)
        self.raters: int = raters or self._key.get(RATERS) or _TWO
        self._secret = hashlib.sha256((folder / KEY).read_bytes()).digest()  # raters do not have the key
        self._path = folder / VOTES
        self._repeats = round(len(self._rows) / REPEATED) if repeats is None else min(repeats, len(self._rows))
        self._lock = RLock()
        self._size = -1
        self._votes: list[Vote] = []
        self._files: dict[str, VoteFile] = {}
        self._open: dict[str, _Shown] = {}
        self._tokens: dict[str, dict[str, _Shown]] = {}
        self._read()

    @property
    def outputs(self) -> int:
        """Outputs of each item."""
        return len(self._key["arms"])

    @property
    def asks_right(self) -> bool:
        """Whether raters say which outputs are right, and not which one is better."""
        return bool(self._key.get("asks") == RIGHT)

    def secret(self, purpose: str) -> str:
        """A text that only whoever has the comparison's key can know, and that a restart does not change."""
        return self._sign(purpose)

    def turn(self, rater: str, number: int | None = None) -> Turn | None:
        """What a rater is shown: one of the turns so far, or the next one.

        Args:
            rater: the name.
            number: of the turn; None, or one that has not come yet: the next.

        Returns:
            None where nothing is left for this rater.
        """
        with self._lock:
            history = self._history(rater)
            if number is not None and 1 <= number <= len(history):
                shown = list(history)[number - 1]
                return self._turn(rater, number, shown, history[shown])
            following = self._next(rater, history)
            return None if following is None else self._turn(rater, len(history) + 1, following, None)

    def vote(self, rater: str, token: str, choice: Choice, comment: str = "") -> bool:
        """Keep a vote, or a correction of one; it is on disk when this returns.

        Args:
            rater: the name.
            token: of the turn.
            choice: a position in the turn's outputs, or a word.
            comment: the rater's remark.

        Returns:
            False where the turn is not this rater's, or the choice is no answer to what the sheets ask.

        Raises:
            SetupError: it cannot be written.
        """
        with self._lock:
            history = self._history(rater)
            shown = self._tokens_of(rater).get(token)
            if choice in unfit_words(self._key) or (isinstance(choice, int) and not 1 <= choice <= self.outputs):
                return False
            if shown is None:
                return False
            item, repeat = shown
            order = self._order(rater, shown)
            position = order[choice - 1] if isinstance(choice, int) else choice
            before = history.get(shown)
            if before is None or (before.choice, before.comment) != (position, comment):
                if rater not in self._files:
                    self._files[rater] = VoteFile(self._path, self._key["study"], rater)
                more: Json = {"shown": list(order)} | ({"comment": comment} if comment else {})
                more |= {"repeat": True} if repeat else {}
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self._files[rater].add(item, position, at=now, **more)
            self._open.pop(rater, None)
            return True

    def progress(self, rater: str) -> tuple[int, int]:
        """How many turns a rater has had, and how many there will be as things stand."""
        with self._lock:
            history = self._history(rater)
            first = sum(not repeat for _, repeat in history)
            left = len(self._candidates(rater, history))
            repeats = max(len(history) - first, self._repeats if left or self._next(rater, history) else 0)
            return len(history), first + left + repeats

    def standing(self) -> Json:
        """For the organiser: items `shown` in all and `complete` ones, votes by rater, and the `results` so far."""
        with self._lock:
            counts, votes = self._counts(), list(self._votes)
        chosen = [vote for vote in votes if not vote.repeat and vote.choice != SKIP]
        by_rater = Counter(rater for rater, _ in {(vote.rater, vote.item) for vote in chosen})
        return {
            "shown": len(self._rows),
            "complete": sum(counts[item] >= self.raters for item in self._rows),
            "raters": dict(sorted(by_rater.items())),
            "results": tally_votes(self._key, votes) if chosen else None,
        }

    def _history(self, rater: str) -> dict[_Shown, Vote]:
        """A rater's latest vote of each turn, in the order of the turns."""
        self._read()
        return {(vote.item, vote.repeat): vote for vote in self._votes if vote.rater == rater}

    def _read(self) -> None:
        """Read the votes again if any was added, here or by another process."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size != self._size:
            votes = read_whole_votes(self._path)
            check_votes(self._key, votes)
            self._votes = votes
            self._size = self._path.stat().st_size if self._path.is_file() else 0

    def _counts(self, but: str | None = None) -> Counter[str]:
        """How many raters voted on each item."""
        self._read()
        latest = {(vote.rater, vote.item): vote for vote in self._votes if not vote.repeat and vote.rater != but}
        return Counter(item for (_, item), vote in latest.items() if vote.choice != SKIP)

    def _candidates(self, rater: str, history: dict[_Shown, Vote]) -> list[str]:
        """Items that a rater may still be shown, those with the fewest votes first."""
        counts = self._counts(but=rater)
        elsewhere = Counter(item for other, (item, _) in self._open.items() if other != rater)
        rest = [item for item in self._rows if (item, False) not in history and counts[item] < self.raters]
        return sorted(rest, key=lambda item: (counts[item] + elsewhere[item], self._sign(f"order {rater} {item}")))

    def _next(self, rater: str, history: dict[_Shown, Vote]) -> _Shown | None:
        """What a rater is shown next; the same until it is voted on."""
        shown = self._open.get(rater)
        if shown is None or shown in history:
            self._open.pop(rater, None)
            candidates = self._candidates(rater, history)
            again = self._repeat(rater, history, last=not candidates)
            shown = (again, True) if again is not None else (candidates[0], False) if candidates else None
            if shown is not None:
                self._open[rater] = shown
        return shown

    def _repeat(self, rater: str, history: dict[_Shown, Vote], *, last: bool) -> str | None:
        """The item to show for the second time, if it is time for one: they are spread evenly."""
        turns = list(history)
        repeated = {item for item, repeat in turns if repeat}
        every = max(1, len(self._rows) // (self._repeats + 1))
        is_due = last or len(turns) - len(repeated) >= (len(repeated) + 1) * every
        if len(repeated) >= self._repeats or not is_due:
            return None
        old = [
            item
            for item, repeat in turns[: max(0, len(turns) - _APART)]
            if not repeat and item not in repeated and history[item, False].choice != SKIP
        ]
        return min(old, key=lambda item: self._sign(f"repeat {rater} {item}"), default=None)

    def _turn(self, rater: str, number: int, shown: _Shown, vote: Vote | None) -> Turn:
        row, order = self._rows[shown[0]], self._order(rater, shown)
        choice = vote.choice if vote is not None else None
        if isinstance(choice, int):
            choice = order.index(choice) + 1
        return Turn(
            number,
            self._token(rater, shown),
            row["question"],
            tuple(row["references"]),
            tuple(row["outputs"][position - 1] for position in order),
            tuple(row.get("passages") or ()),
            choice,
            vote.comment if vote is not None else "",
        )

    def _order(self, rater: str, shown: _Shown) -> Sequence[int]:
        """The sheet's positions as this rater sees them; the second time reversed.

        The orders on the sheets are random, with every arm equally often in every position: turned round by as many
        places for all items of a rater they still are, and another rater may see an item's outputs in another order.
        """
        places = int(self._sign(f"outputs {rater}")[:8], 16) % self.outputs
        order = [(place + places) % self.outputs + 1 for place in range(self.outputs)]
        return order[::-1] if shown[1] else order

    def _tokens_of(self, rater: str) -> dict[str, _Shown]:
        if rater not in self._tokens:
            turns = [(item, repeat) for item in self._rows for repeat in (False, True)]
            self._tokens[rater] = {self._token(rater, shown): shown for shown in turns}
        return self._tokens[rater]

    def _token(self, rater: str, shown: _Shown) -> str:
        return self._sign(f"turn {rater} {shown}")[:32]

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
