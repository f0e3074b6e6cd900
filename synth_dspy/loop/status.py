"""What a person looks at, and decides: the signals' latest readings, and the challenger that waits."""

from __future__ import annotations

from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.loop.cycle import Cycle, Cycles
from synth_dspy.loop.records import GRADER, Reading
from synth_dspy.loop.registry import Registry
from synth_dspy.loop.store import Store

JUDGING = "judging"
"""In a cycle's evidence: the folder of the pairs that people judge; None where there are none."""
PAGE = "/review"
"""Of the service, where they do."""


def judging_folder(cycle: Cycle | None) -> Path | None:
    """The folder of the pairs that a cycle waits for people to judge; None where it does not."""
    if cycle is None or cycle.state != "compared":
        return None
    folder = cycle.memory.get(JUDGING)
    return Path(folder) if folder else None


def latest_readings(store: Store) -> list[Reading]:
    """The latest reading of every signal; a grader's agreement with people is not one."""
    latest = {reading.signal: reading for reading in store.read(Reading) if reading.signal != GRADER}
    return list(latest.values())


def answer_cycle(registry: Registry, by: str, *, approve: bool, reason: str = "", cycle: str | None = None) -> Cycle:
    """Let the challenger that waits go on, or keep the champion and end the open cycle.

    Args:
        registry: of the task.
        by: "person:<name>".
        approve: go on.
        reason: in the person's words.
        cycle: the cycle that the person saw; by default the open one.

    Raises:
        SetupError: no cycle is open, another one is, or it cannot be answered in its state.
    """
    cycles = Cycles(registry.store, {})
    current = cycles.current()
    if current is None:
        raise SetupError(f"{registry.store.task} has no open cycle, so nothing waits for a person.")
    if cycle is not None and current.id != cycle:
        raise SetupError(f"The cycle {cycle} has ended, and {current.id} is open now: look at that one.")
    after = cycles.answer(current.id, by, approve=approve, reason=reason)
    challenger = after.memory.get("challenger")
    if not approve and challenger and registry.alias("challenger") == challenger:
        registry.challenge(None, by, after.transitions[-1].reason, {"cycle": after.id})
    return after
