"""People's verdicts on sheets that ask which outputs are right: several raters' put together, by item and arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_dspy.evaluation.blind.tally import check_votes
from synth_dspy.evaluation.blind.votes import BOTH, SKIP, Vote, merge


@dataclass(frozen=True, slots=True)
class Verdict:
    """What people say of an item's outputs.

    Attributes:
        right: by arm, 1 where most raters call its output right, 0 where most call it wrong, 0.5 where they are
            evenly divided; empty where all of them skipped the item.
        raters: who voted on it.
        skipped: how many of these skipped it.
    """

    right: Mapping[str, float]
    raters: frozenset[str]
    skipped: int


def verdicts_of(key: Mapping[str, Any], votes: Sequence[Vote]) -> dict[str, Verdict]:
    """Verdicts on the items that anybody voted on, by the items' ids.

    A rater's last vote on an item counts; what a rater says when an item is shown again does not.

    Args:
        key: of sheets that ask which outputs are right.
        votes: on these.

    Raises:
        SetupError: a vote is on other sheets, or no answer to what they ask.
    """
    check_votes(key, votes)
    arms = [str(arm["name"]) for arm in key["arms"]]
    by_item: dict[str, list[Vote]] = {}
    for vote in merge([vote for vote in votes if not vote.repeat])[0]:
        by_item.setdefault(vote.item, []).append(vote)
    verdicts = {}
    for item, cast in by_item.items():
        facts = key["items"][item]
        chosen = [vote.choice for vote in cast if vote.choice != SKIP]
        right = {arm: _majority([_is_right(choice, facts["order"].index(arm)) for choice in chosen]) for arm in arms}
        raters = frozenset(vote.rater for vote in cast)
        verdicts[str(facts["id"])] = Verdict(right if chosen else {}, raters, len(cast) - len(chosen))
    return verdicts


def _is_right(choice: int | str, place: int) -> bool:
    return choice == BOTH or choice == place + 1


def _majority(verdicts: Sequence[bool]) -> float:
    right = sum(verdicts)
    wrong = len(verdicts) - right
    return 0.5 if right == wrong else float(right > wrong)
