"""A cycle of improvement: from a signal to a new champion, or to the reason why there is none.

    opened -> indexed -> questions -> rows -> trained -> compared -> decided -> waiting -> shadow -> share -> promoted
           -> watched -> closed

A cycle about a version that a person promoted goes from `opened` to `promoted`: there is nothing to train.

A cycle's state is the last of its transitions in the store. `advance` does the work of that state and records one more
transition, with its reason and evidence. A process that is killed leaves the state as it was, so the work is done
again, which costs little: what a run's ledger has answered is not asked again. Two processes may both do the work of a
state; the store takes a transition's number once, so one of them makes the transition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from synth_dspy.core.errors import SetupError
from synth_dspy.loop.records import Transition
from synth_dspy.loop.store import Store, now

State = Literal[
    "opened", "indexed", "questions", "rows", "trained", "compared", "decided",
    "waiting", "shadow", "share", "promoted", "watched", "rolled_back", "closed",
]  # fmt: skip
STATES: tuple[State, ...] = get_args(State)
NEXT: Mapping[State, tuple[State, ...]] = {
    "opened": ("indexed", "promoted", "closed"),
    "indexed": ("questions", "closed"),
    "questions": ("rows", "closed"),
    "rows": ("trained", "closed"),
    "trained": ("compared", "closed"),
    "compared": ("decided", "compared", "closed"),
    "decided": ("waiting", "shadow", "closed"),
    "waiting": ("shadow", "closed"),
    "shadow": ("share", "closed"),
    "share": ("promoted", "closed"),
    "promoted": ("watched", "rolled_back"),
    "watched": ("closed",),
    "rolled_back": ("closed",),
    "closed": (),
}
"""The states that may follow each state; `compared` follows itself where the gate will look once more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the work of a state came to.

    Attributes:
        after: the state to go on to, one of `NEXT`.
        reason: in a sentence, for people.
        evidence: JSON; later states read it (`Cycle.memory`).
    """

    after: State
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle with its history."""

    id: str
    transitions: tuple[Transition, ...]

    @property
    def state(self) -> State:
        """Where it stands."""
        return self.transitions[-1].after  # type: ignore[return-value]

    @property
    def may_be_rejected(self) -> bool:
        """Whether it has promoted nothing yet."""
        return "closed" in NEXT[self.state] and self.state not in ("watched", "rolled_back")

    @property
    def memory(self) -> dict[str, Any]:
        """The evidence of all its transitions, later ones over earlier ones."""
        return {key: value for each in self.transitions for key, value in each.evidence.items()}

    @property
    def reason(self) -> str:
        """Why it was opened."""
        return self.transitions[0].reason


Step = Callable[[Cycle], Outcome | None]
"""Does the work of a state; None: it is not finished, as where a person or more traffic is waited for."""


class Cycles:
    """The cycles of one task. At most one is open."""

    def __init__(self, store: Store, steps: Mapping[State, Step]) -> None:
        """Keep cycles in a store.

        Args:
            store: the task's.
            steps: the work of every state but `closed`.
        """
        self.store = store
        self._steps = steps

    def all(self) -> list[Cycle]:
        """Every cycle, the oldest first."""
        by_id: dict[str, list[Transition]] = {}
        for transition in self.store.read(Transition):
            by_id.setdefault(transition.cycle, []).append(transition)
        return [Cycle(name, tuple(sorted(each, key=lambda t: t.number))) for name, each in by_id.items()]

    def cycle(self, name: str) -> Cycle:
        """A cycle by its id.

        Raises:
            SetupError: there is none.
        """
        transitions = self.store.read(Transition, cycle=name)
        if not transitions:
            raise SetupError(f"{self.store.task} has no cycle {name!r}.")
        return Cycle(name, tuple(transitions))

    def current(self) -> Cycle | None:
        """The open cycle."""
        latest = self.store.read(Transition, last=1)
        cycle = self.cycle(latest[0].cycle) if latest else None
        return None if cycle is None or cycle.state == "closed" else cycle

    def open(self, by: str, reason: str, evidence: Mapping[str, Any] | None = None) -> Cycle:
        """Open a cycle; while one is open, that one is returned.

        Args:
            by: "loop" or "person:<name>".
            reason: the signal's, or a person's.
            evidence: the signal's.
        """
        number = len(self.all()) + 1
        current = self.current()
        if current is not None:
            return current
        first = Transition(f"c{number}", "", "opened", now(), by, reason, dict(evidence or {}), number=1)
        self.store.add(first)  # where another process has just opened it, that is the one
        return self.cycle(first.cycle)

    def advance(self, cycle: Cycle) -> Cycle | None:
        """Do the work of a cycle's state.

        Returns:
            The cycle in its next state; None where it stays where it is.

        Raises:
            SetupError: the work failed, and says how to mend it; the state stays, and the next `advance` tries again.
        """
        step = self._steps.get(cycle.state)
        outcome = step(cycle) if step is not None else None
        if outcome is None:
            return None
        return self._move(cycle, outcome, "loop")

    def answer(self, name: str, by: str, *, approve: bool, reason: str = "") -> Cycle:
        """Approve the challenger that a cycle waits with, or end a cycle that has not promoted anything yet.

        Raises:
            SetupError: the cycle does not wait for a person, or it cannot be ended any more.
        """
        cycle = self.cycle(name)
        if approve and cycle.state != "waiting":
            raise SetupError(f"The cycle {name} of {self.store.task} is {cycle.state}; it does not wait for approval.")
        if not cycle.may_be_rejected:
            raise SetupError(
                f"The cycle {name} of {self.store.task} is {cycle.state}: there is nothing left to reject; `rollback` "
                "returns to the previous champion."
            )
        if approve:
            return self._move(cycle, Outcome("shadow", reason or f"Approved by {by}."), by)
        return self._move(cycle, Outcome("closed", reason or f"Rejected by {by}."), by)

    def _move(self, cycle: Cycle, outcome: Outcome, by: str) -> Cycle:
        if outcome.after not in NEXT[cycle.state]:
            raise ValueError(f"{outcome.after} does not follow {cycle.state}")
        last = cycle.transitions[-1]
        self.store.add(
            Transition(
                cycle.id, cycle.state, outcome.after, now(), by, outcome.reason, dict(outcome.evidence), last.number + 1
            )
        )  # False: another process made this transition, and its outcome counts
        return self.cycle(cycle.id)
