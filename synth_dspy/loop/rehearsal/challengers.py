"""Challengers of stated quality at the gate: how many are promoted, and how many labels that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from synth_dspy.loop.gate import Policy, decide
from synth_dspy.loop.rehearsal.drawn import Judge, draw_pairs
from synth_dspy.loop.rehearsal.steps import ITEMS, decide_by_looks
from synth_dspy.loop.rehearsal.users import Users

KINDS = 6


@dataclass(frozen=True, slots=True)
class Challenger:
    """A challenger as it truly is.

    Attributes:
        about: in a few words, for the report.
        gain: by how much its probability of a right answer is above the champion's, over all kinds.
        lost_kind: by how much it is above on the first kind; None: as on the others, which make up for it.
        cheaper: whether it costs less.
        specificity: the judge's about its wrong answers; None: as about the champion's.
        careless: share of raters who label at random.
    """

    about: str
    gain: float
    lost_kind: float | None = None
    cheaper: bool = False
    specificity: float | None = None
    careless: float = 0.0


CHALLENGERS: Mapping[str, Challenger] = {
    "worse_10": Challenger("worse by 10 points", -0.10),
    "worse_5": Challenger("worse by 5 points", -0.05),
    "equal": Challenger("no better", 0.0),
    "better_5": Challenger("better by 5 points", 0.05),
    "better_10": Challenger("better by 10 points", 0.10),
    "better_15": Challenger("better by 15 points", 0.15),
    "worse_5_cheaper": Challenger("worse by 5 points, cheaper", -0.05, cheaper=True),
    "equal_cheaper": Challenger("no better, cheaper", 0.0, cheaper=True),
    "worse_5_flattered": Challenger(
        "worse by 5 points, and half of its wrong answers please the judge", -0.05, specificity=0.5
    ),
    "worse_5_careless": Challenger("worse by 5 points, half of the raters careless", -0.05, careless=0.5),
    "better_10_careless": Challenger("better by 10 points, half of the raters careless", 0.10, careless=0.5),
    "loses_a_slice": Challenger("better by 10 points, but worse by 30 on one of six kinds", 0.10, lost_kind=-0.30),
}


@dataclass(frozen=True, slots=True)
class Decided:
    """What the gate said of a challenger.

    Attributes:
        verdict: after all looks that it took.
        labels: pairs that people labelled for it.
        unlabelled: its verdict by the judge's scores alone, of a challenger that misleads the judge.
    """

    challenger: str
    seed: int
    verdict: str
    labels: int
    unlabelled: str = ""


@dataclass(frozen=True, slots=True)
class GateSetting:
    """The champion's quality, the judge, the users and the policy that challengers meet."""

    quality: float = 0.65
    judge: Judge = field(default_factory=Judge)
    users: Users = field(default_factory=Users)
    policy: Policy = field(default_factory=Policy)


def try_challenger(name: str, seed: int, setting: GateSetting | None = None) -> Decided:
    """Let the gate decide on one challenger, with labels for it asked for look by look.

    Args:
        name: one of `CHALLENGERS`.
        seed: of everything that is drawn.
        setting: see there.
    """
    setting, challenger = setting or GateSetting(), CHALLENGERS[name]
    draws = np.random.default_rng([seed, 3])
    numbers = draws.integers(KINDS, size=ITEMS)
    gains = np.full(KINDS, challenger.gain)
    if challenger.lost_kind is not None:
        gains[1:] += (challenger.gain - challenger.lost_kind) / (KINDS - 1)
        gains[0] = challenger.lost_kind
    champion = np.clip(setting.quality + draws.uniform(-0.1, 0.1, KINDS), 0.01, 0.99)
    ours, theirs = champion[numbers], np.clip(champion + gains, 0.01, 0.99)[numbers]
    specificity = setting.judge.specificity if challenger.specificity is None else challenger.specificity
    judges = (setting.judge, replace(setting.judge, specificity=specificity))
    pairs, right = draw_pairs([f"kind {number + 1}" for number in numbers], ours, theirs, judges, draws)
    users = replace(setting.users, careless=max(setting.users.careless, challenger.careless))
    decision, labels = decide_by_looks(pairs, right, setting.policy, users, draws, cheaper=challenger.cheaper)
    if challenger.specificity is None:
        return Decided(name, seed, decision.verdict, labels)
    whole = [replace(pair, slices=frozenset()) for pair in pairs]
    alone = decide(whole, replace(setting.policy, looks=1), cheaper=challenger.cheaper)
    return Decided(name, seed, decision.verdict, labels, alone.verdict)
