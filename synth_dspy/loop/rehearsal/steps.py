"""The work of a cycle's states in a world where everything is drawn; the cycle, registry, gate and store are real."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synth_dspy.loop.cycle import Cycle, Outcome, State, Step
from synth_dspy.loop.gate import Decision, Pair, Policy, decide
from synth_dspy.loop.records import Feedback, Version
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.rehearsal.drawn import World, draw_pairs, label_pairs
from synth_dspy.loop.rehearsal.users import Users, as_score
from synth_dspy.loop.signals.quality import QualityDecay, floor_of
from synth_dspy.loop.signals.sequential import RATE
from synth_dspy.pipeline.saved_files import ABOUT, PROGRAM

ITEMS = 1_000
"""Items that champion and challenger both answer, the judge scores, and people label in part."""
TRIAL = 100
"""Answers of a challenger in shadow, and again as a share, before the next state."""
WATCH = 1_000
"""Answers of a new champion that are watched."""


@dataclass(slots=True)
class DrawnSteps:
    """The steps of one world's cycles.

    Attributes:
        world: which answers.
        registry: of its versions.
        folder: where its runs lie.
        policy: of the gate.
        watch: what is watched after a promotion, by the kind of scores; the stated probability of rolling back a
            champion that is as good as the one before is split over them.
        labels: labelled items so far.
        judged: the champion's judged scores at the last comparison.
    """

    world: World
    registry: Registry
    folder: Path
    policy: Policy = field(default_factory=Policy)
    watch: dict[str, QualityDecay] = field(default_factory=dict)
    labels: int = 0
    judged: list[float] = field(default_factory=list)
    _since: int = 0
    _pairs: list[Pair] = field(default_factory=list)
    _right: list[tuple[bool, bool]] = field(default_factory=list)

    def all(self) -> Mapping[State, Step]:
        """The work of every state."""
        return {
            "opened": self._index,
            "indexed": lambda cycle: Outcome("questions", "Questions of the latest kinds are held out."),
            "questions": self._collect,
            "rows": self._train,
            "trained": self._compare,
            "compared": self._decide,
            "decided": self._approve,
            "shadow": lambda cycle: self._after_traffic("share"),
            "share": lambda cycle: self._promote(cycle) if self._enough(TRIAL) else None,
            "promoted": self._watch,
            "watched": lambda cycle: Outcome("closed", "The new champion keeps up."),
            "rolled_back": lambda cycle: Outcome("closed", "The champion before answers again."),
        }

    def register(self, name: str) -> Version:
        """A version of a new run; its program is a file that names it."""
        program = self.folder / name / "programs" / "drawn"
        program.mkdir(parents=True)
        (program / PROGRAM).write_text(json.dumps({"version": name}), encoding="utf-8")
        (program / ABOUT).write_text("{}", encoding="utf-8")
        return self.registry.register(self.folder / name, "drawn")

    def _index(self, cycle: Cycle) -> Outcome:
        return Outcome("indexed", "Documents are indexed.", {"documents": self.world.documents()})

    def _collect(self, cycle: Cycle) -> Outcome:
        rows = self.registry.store.count(Feedback)
        return Outcome("rows", f"{rows} records of feedback are at hand.", {"feedback": rows})

    def _train(self, cycle: Cycle) -> Outcome:
        version = self.register(f"v{len(self.registry.versions()) + 1}").id
        self.world.train(version)
        return Outcome("trained", f"{version} is trained.", {"challenger": version})

    def _compare(self, cycle: Cycle) -> Outcome:
        champion, challenger = self.registry.version("champion").id, cycle.memory["challenger"]
        kinds = self.world.questions(ITEMS).kinds
        chances = [self.world.chances(version, kinds, in_use=False) for version in (champion, challenger)]
        judges = (self.world.judge, self.world.judge)
        self._pairs, self._right = draw_pairs(kinds, chances[0], chances[1], judges, self.world.draws)
        self.judged = [pair.champion for pair in self._pairs]
        return Outcome("compared", f"Both answered {ITEMS} items.", {"items": ITEMS})

    def _decide(self, cycle: Cycle) -> Outcome:
        decision, labels = decide_by_looks(self._pairs, self._right, self.policy, self.world.users, self.world.draws)
        self.labels += labels
        evidence: dict[str, Any] = {"verdict": decision.verdict, "labels": labels, **decision.evidence()}
        return Outcome("decided", decision.reason, evidence)

    def _approve(self, cycle: Cycle) -> Outcome:
        if cycle.memory["verdict"] != "promote":
            return Outcome("closed", cycle.transitions[-1].reason)
        self.registry.challenge(cycle.memory["challenger"], "loop", "The gate lets it through.")
        self._since = self.world.asked
        return Outcome("shadow", "The challenger answers in shadow.")

    def _enough(self, requests: int) -> bool:
        return self.world.asked - self._since >= requests

    def _after_traffic(self, after: State) -> Outcome | None:
        if not self._enough(TRIAL):
            return None
        self._since = self.world.asked
        return Outcome(after, f"{TRIAL} requests have passed.")

    def _promote(self, cycle: Cycle) -> Outcome:
        champion = self.registry.version("champion").id
        recent = (as_score(each) for each in self.registry.store.read(Feedback, last=WATCH))
        references = {"judge": self.judged, "people": [score for score in recent if score is not None]}
        rate = RATE / len(references)
        floors = {name: floor_of(scores, rate) for name, scores in references.items()}
        self.watch = {name: QualityDecay(floor, rate / 2) for name, floor in floors.items() if floor is not None}
        evidence = {"before": champion, "floors": {name: each.floor for name, each in self.watch.items()}}
        self.registry.promote(cycle.memory["challenger"], "loop", cycle.memory["verdict"], evidence)
        self._since = self.world.asked
        return Outcome("promoted", f"{cycle.memory['challenger']} answers now.", evidence)

    def _watch(self, cycle: Cycle) -> Outcome | None:
        alarms = sorted(name for name, each in self.watch.items() if each.alarm)
        if alarms:
            reason = f"Its {' and '.join(alarms)} scores fell below those of the champion before."
            self.registry.roll_back("watch", reason, {"requests": self.world.asked - self._since})
            return Outcome("rolled_back", reason, {"delay": self.world.asked - self._since})
        return Outcome("watched", f"{WATCH} requests without an alarm.") if self._enough(WATCH) else None


def decide_by_looks(
    pairs: Sequence[Pair],
    right: Sequence[tuple[bool, bool]],
    policy: Policy,
    users: Users,
    draws: np.random.Generator,
    *,
    cheaper: bool = False,
) -> tuple[Decision, int]:
    """Ask for labels, look by look, until the gate decides.

    Returns:
        The decision, and how many items were labelled for it.
    """
    labelled = label_pairs(pairs, right, policy.labels, users, draws)
    for look in range(1, policy.looks + 1):
        asked = min(policy.labels_at(look), len(pairs))
        decision = decide([*labelled[:asked], *pairs[asked:]], policy, cheaper=cheaper, look=look)
        if decision.verdict != "undecided":
            break
    return decision, asked
