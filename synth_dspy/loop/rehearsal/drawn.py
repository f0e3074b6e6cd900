"""Answers and scores that are drawn from stated probabilities, without any model.

A version answers a question of a kind correctly with a stated probability. The answers of two versions to one question
are correlated, as those of two programs on one base are: a normal copula with correlation `CORRELATION`. The judge
calls a right answer right with its sensitivity, and a wrong one wrong with its specificity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from synth_dspy.loop.gate import Pair
from synth_dspy.loop.records import Request, Route
from synth_dspy.loop.rehearsal.events import Event
from synth_dspy.loop.rehearsal.stream import Batch, Stream
from synth_dspy.loop.rehearsal.users import Users

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

CORRELATION = 0.6
CANARIES = 30
DAY = 100
"""Requests a day."""
_START = datetime(2026, 1, 1, tzinfo=UTC)
_UNSTABLE = 0.02  # canary answers that differ from day to day although the model stays
_NEW_KINDS_LOSE = 0.35  # right answers that a version loses on kinds that it was not made for
_OUTDATED = 0.2  # share of right answers about an amended document that stay right
_EFFECTS = (-0.10, -0.05, 0.0, 0.05)  # of a training on what it does not learn anew
_SEEMING = 0.15  # by which a challenger seems better that is worse
_COST_USD = 0.0002


@dataclass(frozen=True, slots=True)
class Judge:
    """How often a judge is right about right answers and about wrong ones."""

    sensitivity: float = 0.85
    specificity: float = 0.80

    def score(self, right: Flags, draws: np.random.Generator) -> Floats:
        """1 where it calls an answer right."""
        called = np.where(
            right, draws.random(right.size) < self.sensitivity, draws.random(right.size) >= self.specificity
        )
        return called.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Skill:
    """How often a version is right.

    Attributes:
        right: probability by kind of question, with the documents as the version knows them.
        amended: kinds whose amendment it does not know.
        gain: what its scores at the gate did not show: added in use.
    """

    right: Mapping[str, float]
    amended: frozenset[str] = frozenset()
    gain: float = 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """Requests, their questions' embeddings, whether each answer is right, its judge's and its best passage's score."""

    requests: list[Request]
    vectors: NDArray[np.float32]
    right: list[bool]
    judged: list[float]
    retrieval: list[float]


def draw_pairs(
    kinds: Sequence[str],
    champion: Floats,
    challenger: Floats,
    judges: tuple[Judge, Judge],
    draws: np.random.Generator,
) -> tuple[list[Pair], list[tuple[bool, bool]]]:
    """Items that two versions answered, judged but not labelled, and whether each one's answers are right.

    Args:
        kinds: of the items, n of them; a kind is a protected slice.
        champion: its probability of a right answer, shape (n,).
        challenger: the same of the challenger.
        judges: of the champion's answers, and of the challenger's, which may mislead it.
        draws: random numbers.
    """
    n = len(kinds)
    shared = np.sqrt(CORRELATION) * draws.normal(size=n)
    right = [shared + np.sqrt(1 - CORRELATION) * draws.normal(size=n) < norm.ppf(p) for p in (champion, challenger)]
    judged = [judge.score(each, draws) for judge, each in zip(judges, right, strict=True)]
    pairs = [
        Pair(float(ours), float(theirs), str(place), frozenset({kind}))
        for place, (kind, ours, theirs) in enumerate(zip(kinds, *judged, strict=True))
    ]
    return pairs, list(zip(right[0].tolist(), right[1].tolist(), strict=True))


def label_pairs(
    pairs: Sequence[Pair], right: Sequence[tuple[bool, bool]], n: int, users: Users, draws: np.random.Generator
) -> list[Pair]:
    """The pairs with the first `n` of them labelled; drawn pairs are in random order."""
    return [
        replace(
            pair,
            champion_label=users.label(right[place][0], draws),
            challenger_label=users.label(right[place][1], draws),
        )
        if place < n
        else pair
        for place, pair in enumerate(pairs)
    ]


class World:
    """A service that answers a stream of questions, to which an event happens."""

    def __init__(self, seed: int, stream: Stream, event: Event, quality: float, judge: Judge, users: Users) -> None:
        """Make a world before its event.

        Args:
            seed: of everything that is drawn.
            stream: its questions.
            event: that `begin` lets happen.
            quality: the first version's mean probability of a right answer.
            judge: of its answers.
            users: who rate them.
        """
        self.draws = np.random.default_rng([seed, 2])
        self.stream, self.event, self.judge, self.users = stream, event, judge, users
        self.began = False
        self.asked = 0
        kinds = stream.ordinary + stream.new
        spread = self.draws.uniform(-0.1, 0.1, len(kinds))
        right = {kind: float(np.clip(quality + by, 0.02, 0.98)) for kind, by in zip(kinds, spread, strict=True)}
        self._unlearned = {kind: right[kind] - _NEW_KINDS_LOSE for kind in stream.new}
        self.skills = {"v1": Skill(right | {kind: max(p, 0.02) for kind, p in self._unlearned.items()})}
        self._learned = right

    @property
    def now(self) -> datetime:
        """The world's time: a day is `DAY` requests."""
        return _START + timedelta(days=self.asked / DAY)

    def begin(self) -> None:
        """Let the event happen."""
        self.began = True
        amended = frozenset(self.stream.ordinary[: self.event.amended])
        self.skills = {name: replace(skill, amended=amended) for name, skill in self.skills.items()}
        self.users = replace(self.users, careless=max(self.users.careless, self.event.careless))

    def train(self, version: str) -> Skill:
        """A new version: it knows the documents and the kinds of today, and is otherwise better or worse by chance."""
        planted = self.event.promoted_quality if self.began else 0.0
        by = _SEEMING if planted else self.draws.choice(_EFFECTS)
        known = self._learned if self.began and self.event.new_kinds else self.skills["v1"].right
        right = {kind: float(np.clip(p + by, 0.02, 0.98)) for kind, p in known.items()}
        self.skills[version] = Skill(right, gain=planted - by if planted else 0.0)
        return self.skills[version]

    def chances(self, version: str, kinds: Sequence[str], *, in_use: bool = True) -> Floats:
        """The probabilities that a version's answers are right; shape (n,)."""
        skill = self.skills[version]
        p = np.array([skill.right[kind] * (_OUTDATED if kind in skill.amended else 1.0) for kind in kinds])
        return np.clip(p + (self.event.quality if self.began else 0.0) + (skill.gain if in_use else 0.0), 0.01, 0.99)

    def questions(self, n: int) -> Batch:
        """The next questions."""
        return self.stream.ask(n, self.event.new_kinds if self.began else 0.0)

    def answer(self, batch: Batch, version: str, route: Route = "champion") -> Answered:
        """A version's answers."""
        n, draws, event = len(batch.kinds), self.draws, self.event
        right = draws.random(n) < self.chances(version, batch.kinds)
        retrieval = draws.normal(size=n) + (event.retrieval if self.began else 0.0)
        latency = draws.lognormal(0.0, 0.5, n) * (event.latency if self.began else 1.0)
        tokens = draws.poisson(200, n)
        requests = []
        for place in range(n):
            self.asked += route == "champion"
            answer = "as documented" if right[place] else "something else"
            number = f"{self.asked}-{version}-{place}"
            requests.append(
                Request(
                    number, self.now, version, route, {"question": batch.texts[place]}, answer, False, (),
                    int(tokens[place]), 20, float(latency[place]), cost_usd=_COST_USD * float(tokens[place]) / 200,
                )
            )  # fmt: skip
        judged = self.judge.score(right, draws)
        return Answered(requests, batch.vectors, right.tolist(), judged.tolist(), retrieval.tolist())

    def canaries(self) -> dict[str, str]:
        """The canary questions' answers today."""
        differing = max(_UNSTABLE, self.event.canaries if self.began else 0.0)
        return {
            f"canary {place}": "another" if differs else "as ever"
            for place, differs in enumerate(self.draws.random(CANARIES) < differing)
        }

    def documents(self) -> dict[str, str]:
        """The documents' hashes today: one document a kind."""
        seen = self.event.amended if self.began and "documents" in self.event.noticed_by else 0
        return {kind: f"{kind} amended" if place < seen else kind for place, kind in enumerate(self.stream.ordinary)}
