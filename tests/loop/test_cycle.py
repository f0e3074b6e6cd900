"""A cycle goes through its states whatever stops it, and two processes make one transition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.loop.cycle import NEXT, STATES, Cycle, Cycles, Outcome, State, Step
from synth_dspy.loop.store import Store

WAY: tuple[State, ...] = (
    "opened", "indexed", "questions", "rows", "trained", "compared",
    "decided", "shadow", "share", "promoted", "watched",
)  # fmt: skip
"""The states of a cycle that is promoted without a person's approval."""


def steps(changes: Mapping[State, Step] | None = None) -> dict[State, Step]:
    """Steps that go straight on."""

    def straight(cycle: Cycle) -> Outcome:
        after = {"decided": "shadow"}.get(cycle.state, NEXT[cycle.state][0])
        return Outcome(after, f"{cycle.state} is done", {cycle.state: True})  # type: ignore[arg-type]

    return {state: straight for state in NEXT if state not in ("closed", "waiting")} | dict(changes or {})


def leading_to(state: State) -> dict[State, Step]:
    """What makes a cycle come to a state beside the straight way."""
    before: dict[State, State] = {"waiting": "decided", "rolled_back": "promoted"}
    return {before[state]: lambda cycle: Outcome(state, "not straight on")} if state in before else {}


def run(cycles: Cycles, cycle: Cycle) -> Cycle:
    while (after := cycles.advance(cycle)) is not None:
        cycle = after
    return cycle


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    store = Store.open(where, "contract_qa")
    yield store
    store.close()


def test_a_cycle_goes_through_all_states_and_remembers(store: Store) -> None:
    cycles = Cycles(store, steps())
    cycle = run(cycles, cycles.open("loop", "documents changed", {"documents": ["a"]}))
    assert tuple(each.before for each in cycle.transitions[1:]) == WAY
    assert cycle.state == "closed"
    assert cycle.memory["documents"] == ["a"]
    assert cycle.memory["trained"] is True
    assert cycles.current() is None
    assert cycles.open("loop", "again").id == "c2"


def test_one_cycle_is_open_at_a_time(store: Store) -> None:
    cycles = Cycles(store, steps())
    first = cycles.open("loop", "documents changed")
    assert cycles.open("person:ann", "now") == first


def test_a_person_approves_or_rejects(store: Store) -> None:
    cycles = Cycles(store, steps({"decided": lambda cycle: Outcome("waiting", "better by 5 points")}))
    for name, approve, state in (("c1", False, "closed"), ("c2", True, "shadow")):
        cycle = run(cycles, cycles.open("loop", "documents changed"))
        assert cycle.state == "waiting"
        assert cycles.answer(name, "person:ann", approve=approve).state == state
    with pytest.raises(SetupError, match="it does not wait for approval"):
        cycles.answer("c2", "person:ann", approve=True)
    with pytest.raises(SetupError, match="has no cycle 'c9'"):
        cycles.answer("c9", "person:ann", approve=True)


def test_a_failure_leaves_the_state(store: Store) -> None:
    tries = []

    def fails_once(cycle: Cycle) -> Outcome:
        tries.append(cycle.state)
        if len(tries) == 1:
            raise SetupError("the teacher does not answer")
        return Outcome("compared", "trained")

    cycles = Cycles(store, steps({"trained": fails_once}))
    cycle = cycles.open("loop", "documents changed")
    with pytest.raises(SetupError, match="teacher"):
        run(cycles, cycle)
    stopped = cycles.current()
    assert stopped is not None
    assert stopped.state == "trained"
    assert run(cycles, stopped).state == "closed"


def test_a_step_that_leads_nowhere_is_refused(store: Store) -> None:
    cycles = Cycles(store, steps({"opened": lambda cycle: Outcome("shadow", "why not")}))
    with pytest.raises(ValueError, match="shadow does not follow opened"):
        cycles.advance(cycles.open("loop", "documents changed"))


def test_two_processes_make_one_transition(store: Store) -> None:
    rival = Cycles(store, steps())

    def overtaken(cycle: Cycle) -> Outcome:
        rival.advance(cycle)
        return Outcome("indexed", "mine", {"mine": True})

    cycles = Cycles(store, steps({"opened": overtaken}))
    after = cycles.advance(cycles.open("loop", "documents changed"))
    assert after is not None
    assert [each.reason for each in after.transitions] == ["documents changed", "opened is done"]
    assert "mine" not in after.memory


KILLED = textwrap.dedent("""
    import os, signal, sys
    from synth_dspy.loop.cycle import Cycles
    from synth_dspy.loop.store import Store
    from test_cycle import leading_to, run, steps

    path, state = sys.argv[1:]
    def dies(cycle):
        os.kill(os.getpid(), signal.SIGKILL)
    cycles = Cycles(Store.open(path, "contract_qa"), steps({**leading_to(state), state: dies}))
    run(cycles, cycles.current() or cycles.open("loop", "documents changed"))
""")


@pytest.mark.parametrize("state", [state for state in STATES if state != "closed"])
def test_a_loop_that_is_killed_in_any_state_goes_on(tmp_path: Path, state: State) -> None:
    path = tmp_path / "production.sqlite"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), state], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    cycles = Cycles(Store.open(path, "contract_qa"), steps(leading_to(state)))
    stopped = cycles.current()
    assert stopped is not None
    assert stopped.state == state
    cycle = run(cycles, stopped)
    if state == "waiting":
        assert cycle.state == "waiting"
        cycle = run(cycles, cycles.answer(cycle.id, "person:ann", approve=True))
    assert cycle.state == "closed"
    passed = tuple(each.before for each in cycle.transitions[1:])
    aside = {"waiting": (*WAY[:7], "waiting", *WAY[7:]), "rolled_back": (*WAY[:10], "rolled_back")}
    assert passed == aside.get(state, WAY)
