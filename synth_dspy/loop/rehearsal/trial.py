"""One rehearsal of one event: traffic, feedback, signals, a cycle where one of them raises an alarm."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from synth_dspy.loop.cycle import Cycles
from synth_dspy.loop.monitor import documents_reading
from synth_dspy.loop.records import AliasMove, Feedback
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.rehearsal.drawn import DAY, Answered, Judge, World
from synth_dspy.loop.rehearsal.events import EVENTS, Event
from synth_dspy.loop.rehearsal.steps import DrawnSteps
from synth_dspy.loop.rehearsal.stream import Questions, Stream
from synth_dspy.loop.rehearsal.users import Users, as_score
from synth_dspy.loop.signals.documents import document_changes
from synth_dspy.loop.signals.quality import floor_of
from synth_dspy.loop.signals.sequential import RATE
from synth_dspy.loop.signals.together import Observed, Signals, part_of
from synth_dspy.loop.store import Store

LOOK = 20
"""Requests between two looks at the signals; canaries and documents are looked at once a day."""
REFERENCE = 1_000
"""Requests before the first look, whose scores the first champion's later ones are compared with."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a rehearsal is set to.

    Attributes:
        quality: the first champion's mean probability of a right answer.
        judge: of all answers.
        users: who rate and label them.
        rate: probability of any false alarm, over all signals together.
        event_at: requests until the event, after the reference.
        horizon: requests after it; with `event_at`, those without an event.
    """

    quality: float = 0.65
    judge: Judge = field(default_factory=Judge)
    users: Users = field(default_factory=Users)
    rate: float = RATE
    event_at: int = 600
    horizon: int = 2_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one rehearsal.

    Attributes:
        event: its name.
        false_alarms: signals that raised an alarm before the event, or though there was none to notice.
        noticed: the first signal that noticed the event; "" where none did.
        delay: requests from the event's effect to that alarm; a planted champion takes effect with its promotion.
        planted: whether the event took effect.
        right: share of right answers before the event, between the event and the end of its cycle, and after it; None
            where there were no such answers.
        state: the last state of the last cycle but `closed`; "" without a cycle.
        promotions: for each promotion, by how much the challenger was truly better on the questions of its day.
        rolled_back: how many promotions were rolled back.
        trainings: how many there were.
        labels: labelled pairs that the gate was given.
        ratings: records of feedback.
        requests: answered.
        cost_usd: of the answers.
    """

    event: str
    seed: int
    false_alarms: tuple[str, ...]
    noticed: str
    delay: int | None
    planted: bool
    right: tuple[float | None, float | None, float | None]
    state: str
    promotions: tuple[float, ...]
    rolled_back: int
    trainings: int
    labels: int
    ratings: int
    requests: int
    cost_usd: float


def rehearse_event(name: str, seed: int, setting: Setting | None = None, questions: Questions | None = None) -> Outcome:
    """Rehearse one event with one seed.

    Args:
        name: one of `EVENTS`.
        seed: of everything that is drawn.
        setting: see there.
        questions: to replay; None: they are drawn around topics.
    """
    store = Store.open("sqlite://", "rehearsal")
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _Trial(name, seed, setting or Setting(), questions, store, Path(folder)).run()
    finally:
        store.close()


class _Trial:
    def __init__(
        self, name: str, seed: int, setting: Setting, questions: Questions | None, store: Store, folder: Path
    ) -> None:
        self._name, self._seed, self._setting, self._store = name, seed, setting, store
        self._event: Event = EVENTS[name]
        stream = Stream(seed, questions)
        self._world = World(seed, stream, self._event, setting.quality, setting.judge, setting.users)
        self._registry = Registry(store)
        self._steps = DrawnSteps(self._world, self._registry, folder)
        self._cycles = Cycles(store, self._steps.all())
        self._registry.promote(self._steps.register("v1").id, "person:rehearsal", "The first.")
        self._right: dict[Literal["before", "during", "after"], list[bool]] = {"before": [], "during": [], "after": []}
        self._cost = 0.0
        self._happened: int | None = None  # requests until the event took effect
        self._promotions: list[float] = []

    def run(self) -> Outcome:
        """Serve until the event's cycle is closed, or the horizon."""
        judged, rated = [], []
        for _ in range(REFERENCE // LOOK):
            answered, feedback = self._serve()
            judged += answered.judged
            rated += _scores(feedback)
        signals, documents = self._signals(judged, rated), self._world.documents()
        start, event_at = self._world.asked, self._world.asked + self._setting.event_at
        false: list[str] = []
        noticed, delay, raised = "", None, set[str]()
        while self._world.asked < start + self._setting.event_at + self._setting.horizon:
            if self._world.asked >= event_at and not self._world.began and self._cycles.current() is None:
                event_at = self._world.asked  # a cycle that a false alarm opened comes to its end first
                self._world.begin()
                self._happened = None if self._event.promoted_quality else event_at
                if self._event.promoted_quality:
                    self._cycles.open("person:rehearsal", "A challenger that is worse than it seems.")
            answered, feedback = self._serve()
            signals.add(self._observed(answered, feedback))
            readings = signals.readings(self._world.now)
            if not self._world.asked % DAY:
                changes = document_changes(documents, self._world.documents())
                readings.append(documents_reading(self._world.now, changes))
            fresh = [each for each in readings if each.alarm and each.signal not in raised]
            if fresh or not self._world.asked % DAY:
                self._store.add_together(readings)
            for reading in fresh:
                raised.add(reading.signal)
                if not self._world.began or self._name == "nothing":
                    false.append(reading.signal)
                elif reading.signal in self._event.noticed_by and not noticed and self._happened is not None:
                    noticed, delay = reading.signal, self._world.asked - self._happened
            if fresh:
                alarms = {each.signal: dict(each.evidence) for each in fresh}
                self._cycles.open("loop", f"Alarm: {', '.join(alarms)}.", {"alarms": alarms})
            moved = self._advance(answered, feedback)
            if moved is not None and moved.by == "watch" and self._world.began and not noticed:
                noticed, delay = "watch", int(moved.evidence["requests"])
            if moved is not None:  # another champion: the signals begin anew
                signals, documents = self._signals(self._steps.judged, rated), self._world.documents()
                raised = set()
            if self._is_over(noticed):
                break
        return self._outcome(false, noticed, delay)

    def _serve(self) -> tuple[Answered, list[Feedback]]:
        batch, champion = self._world.questions(LOOK), self._registry.alias("champion")
        assert champion is not None
        answered = self._world.answer(batch, champion)
        references = ["as documented"] * LOOK
        feedback = self._world.users.rate(answered.requests, answered.right, references, self._world.draws)
        self._store.add_together(answered.requests)
        self._store.add_together(feedback)
        current = self._cycles.current() if self._world.began else None
        done = self._world.began and current is None and bool(self._promotions)
        self._right["after" if done else "during" if self._world.began else "before"] += answered.right
        self._cost += sum(each.cost_usd or 0.0 for each in answered.requests)
        return answered, feedback

    def _observed(self, answered: Answered, feedback: list[Feedback]) -> Observed:
        return Observed(
            answered.vectors,
            people=_scores(feedback),
            judge=answered.judged,
            retrieval=answered.retrieval,
            failures=[float(each.error is not None) for each in answered.requests],
            latency=[each.latency_s for each in answered.requests],
            cost=[each.cost_usd or 0.0 for each in answered.requests],
            canaries={} if self._world.asked % DAY else self._world.canaries(),
        )

    def _advance(self, answered: Answered, feedback: list[Feedback]) -> AliasMove | None:
        """Take the open cycle as far as it goes; the last move of the champion's alias, if there was one."""
        for name, scores in (("judge", answered.judged), ("people", _scores(feedback))):
            if name in self._steps.watch:
                self._steps.watch[name].add(scores)
        moves = self._store.count(AliasMove, alias="champion")
        cycle = self._cycles.current()
        while cycle is not None and (after := self._cycles.advance(cycle)) is not None:
            cycle = after if after.state != "closed" else None
            if after.state == "promoted":
                if self._world.began and self._happened is None:
                    self._happened = self._world.asked
                self._promotions.append(self._gain(after.memory["before"], after.memory["challenger"]))
            elif after.state in ("watched", "rolled_back"):
                self._steps.watch = {}
        if self._store.count(AliasMove, alias="champion") == moves:
            return None
        return self._registry.moves("champion")[-1]

    def _gain(self, before: str, after: str) -> float:
        """By how much a version is truly better in use, on the questions of today."""
        kinds = self._world.questions(1_000).kinds
        return float((self._world.chances(after, kinds) - self._world.chances(before, kinds)).mean())

    def _signals(self, judged: list[float], rated: list[float]) -> Signals:
        rate = self._setting.rate
        floors = {"judge": floor_of(judged, part_of(rate)), "people": floor_of(rated, part_of(rate))}
        kept = {name: floor for name, floor in floors.items() if floor is not None}
        return Signals(rate, kept, seed=1_000_000 + self._seed)

    def _is_over(self, noticed: str) -> bool:
        """The event's cycle is closed, and some answers were given since."""
        after = len(self._right["after"]) >= 10 * LOOK or not self._promotions
        return bool(noticed) and self._cycles.current() is None and after

    def _outcome(self, false: list[str], noticed: str, delay: int | None) -> Outcome:
        cycles = self._cycles.all()
        states = [each.after for each in cycles[-1].transitions if each.after != "closed"] if cycles else [""]
        moves = self._registry.moves("champion")
        right = [sum(each) / len(each) if each else None for each in self._right.values()]
        return Outcome(
            self._name,
            self._seed,
            tuple(false),
            noticed,
            delay,
            self._happened is not None and self._name != "nothing",
            (right[0], right[1], right[2]),
            states[-1],
            tuple(self._promotions),
            sum(move.by == "watch" for move in moves),
            len(self._registry.versions()) - 1,
            self._steps.labels,
            self._store.count(Feedback),
            self._world.asked,
            self._cost,
        )


def _scores(feedback: list[Feedback]) -> list[float]:
    return [score for each in feedback if (score := as_score(each)) is not None]
