"""The gate: what it promotes, and that its looks share the stated probability of a wrong decision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synth_dspy.loop.gate import Pair, Policy, decide


def pairs(gain: float, n: int = 600, labelled: int = 0, seed: int = 0, slices: int = 0) -> list[Pair]:
    """Judged items on which the challenger is better by `gain`; the first ones labelled, as the judge says."""
    draws = np.random.default_rng(seed)
    made = []
    for place in range(n):
        champion, challenger = float(draws.random() < 0.6), float(draws.random() < 0.6 + gain)
        of = frozenset({f"kind {place % slices}"}) if slices else frozenset[str]()
        pair = Pair(champion, challenger, str(place), of)
        if place < labelled:
            pair = replace(pair, champion_label=champion, challenger_label=challenger)
        made.append(pair)
    return made


def test_the_looks_share_the_level_and_double_their_labels() -> None:
    policy = Policy(looks=3, labels=600)
    assert [policy.labels_at(look) for look in (1, 2, 3)] == [150, 300, 600]
    assert policy.level == pytest.approx(1 - 0.05 / 3)
    assert Policy(looks=1).level == pytest.approx(0.95)
    wide, narrow = (decide(pairs(0.0), Policy(looks=looks)).difference for looks in (4, 1))
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low


def test_a_challenger_that_is_no_better_is_hardly_ever_promoted_however_often_it_is_looked_at() -> None:
    policy, promoted = Policy(looks=4, labels=400), 0
    for seed in range(60):
        whole = pairs(0.0, 400, 400, seed)
        for look in range(1, 5):
            judged = policy.labels_at(look)
            labelled = [
                *whole[:judged], *(replace(p, champion_label=None, challenger_label=None) for p in whole[judged:])
            ]  # fmt: skip
            if decide(labelled, policy, look=look).verdict == "promote":
                promoted += 1
                break
    assert promoted <= 5  # stated: 2.5 %; six of 60 have probability 0.1 %


def test_after_the_last_look_no_labels_are_asked_for() -> None:
    undecided = pairs(0.02, labelled=100, seed=1)
    first, last = (decide(undecided, look=look) for look in (1, 3))
    assert first.verdict == last.verdict == "undecided"
    assert last.labels_needed is None
    assert "last look" in last.reason
    with pytest.raises(ValueError, match="3 looks"):
        decide(undecided, look=4)


def test_a_few_labels_decide_nothing_and_as_many_as_are_missing_are_asked_for() -> None:
    decision = decide(pairs(0.3, labelled=8))
    assert (decision.verdict, decision.labels_needed) == ("undecided", 12)
    assert decide(pairs(0.3, labelled=20)).verdict == "promote"


def test_labels_needed_counts_labels_and_not_judged_items() -> None:
    draws = np.random.default_rng(1)
    some = [
        replace(pair, champion_label=float(draws.random() < 0.5), challenger_label=float(draws.random() < 0.6))
        if place < 60
        else pair
        for place, pair in enumerate(pairs(0.1, 5_000))
    ]  # the judge says nothing about the labels
    needed = [decide(some[:n], look=1).labels_needed for n in (1_000, 5_000)]
    assert needed[0] is not None
    assert needed[1] is not None
    assert needed[1] == pytest.approx(needed[0], rel=0.3)


def test_a_slice_that_may_be_lost_holds_and_one_that_is_lost_rejects() -> None:
    good = pairs(0.3, 400, 400, slices=5)
    assert decide(good).verdict == "promote"

    def with_loss(share: float) -> list[Pair]:
        """The first of the slices is lost on a share of its items."""
        draws = np.random.default_rng(2)
        return [
            replace(pair, champion=1.0, challenger=0.0, champion_label=1.0, challenger_label=0.0)
            if "kind 0" in pair.slices and draws.random() < share
            else pair
            for pair in good
        ]

    assert decide(with_loss(0.9)).verdict == "reject"
    doubtful = decide(with_loss(0.45))
    assert doubtful.verdict == "undecided"
    assert "kind 0" in doubtful.reason
    assert doubtful.labels_needed
