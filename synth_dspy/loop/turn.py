"""One turn of the loop: look at the signals, open a cycle where one raises an alarm, and take it as far as it goes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.io.locks import lock_file
from synth_dspy.core.run import jsonl_text
from synth_dspy.core.text import as_text
from synth_dspy.loop.comparison import read_items
from synth_dspy.loop.cycle import Cycle, Cycles
from synth_dspy.loop.mlflow import track_store
from synth_dspy.loop.monitor import Monitor, alarms, describe
from synth_dspy.loop.records import Version
from synth_dspy.loop.steps import make_steps
from synth_dspy.loop.watch import promoted_by_hand
from synth_dspy.loop.work import CYCLES, DOCUMENTS, Work, read_documents
from synth_dspy.models.roles import EMBEDDED
from synth_dspy.pipeline import datasets
from synth_dspy.pipeline.resources import open_embedder
from synth_dspy.pipeline.saved import open_program

LOCK = "loop.lock"
_CANARIES = 20


class Loop:
    """The loop of one task.

    Args:
        work: the task in production.
        monitor: by default of the champion's embedder and documents.
    """

    def __init__(self, work: Work, monitor: Monitor | None = None) -> None:
        self.work = work
        self.cycles = Cycles(work.registry.store, make_steps(work))
        self._monitor = monitor

    def turn(self, *, by: str | None = None, reason: str = "") -> Cycle | None:
        """Go on with the open cycle, or look whether one is to be opened.

        Args:
            by: who wants a cycle now, whatever the signals say; None: nobody.
            reason: why.

        Returns:
            The cycle that was open, as it is now; None where there is none.

        Raises:
            SetupError: another process is at it, there is no champion, or the work of a state failed; the state stays.
        """
        path = self.work.folder / LOCK
        lock = lock_file(path)
        if lock is None:
            holder = path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
            raise SetupError(
                f"Another loop of {self.work.task} is at work, in process {holder}: let it finish, or stop it."
            )
        try:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode("ascii"), 0)
            try:
                return self._turn(by, reason)
            finally:
                track_store(self.work.registry.store, self.work.say)
        finally:
            os.close(lock)

    def _turn(self, by: str | None, reason: str) -> Cycle | None:
        cycle = self.cycles.current() or self._open(by, reason)
        while cycle is not None:
            after = self.cycles.advance(cycle)
            if after is None:
                break
            self._report(after)
            cycle = after
        return cycle

    def _open(self, by: str | None, reason: str) -> Cycle | None:
        if by is not None:
            self.work.champion()  # an error before there is a cycle
            cycle = self.cycles.open(by, reason or "A person wants a cycle now.")
        elif (begun := promoted_by_hand(self.work)) is not None:
            text = f"A person made {begun['challenger']} the champion; it is watched like any other."
            cycle = self.cycles.open("loop", text, begun)
        else:
            self._monitor = self._monitor or make_monitor(self.work)
            raised = alarms(self._monitor.look())
            if not raised:
                return None
            first = raised[0]
            moved = [each for each in raised if each.evidence.get("questions_that_moved")]
            evidence = {"signal": first.signal, "signals": [each.signal for each in raised]}
            if moved:
                evidence["questions_that_moved"] = moved[0].evidence["questions_that_moved"]
            cycle = self.cycles.open("loop", " ".join(map(describe, raised)), evidence)
        self._report(cycle)
        return cycle

    def _report(self, cycle: Cycle) -> None:
        last = cycle.transitions[-1]
        self.work.say(f"{cycle.id} {last.after}: {last.reason}")


def make_monitor(work: Work) -> Monitor:
    """The signals of a task, with its embedder, its documents and its canary questions."""
    store, plan = work.registry.store, work.plan
    _, config = work.declared()
    hosted = not config.models.student.startswith(EMBEDDED)
    canaries = plan.canaries if plan.canaries is not None else (_CANARIES if hosted else 0)
    embedder = open_embedder(config)
    return Monitor(
        store,
        embedder.embed,
        lambda: (_documents_before(work), work.documents()),
        (lambda: _ask_canaries(work, canaries)) if canaries else None,
        rate=plan.rate,
    )


def _documents_before(work: Work) -> Mapping[str, str]:
    """The documents as the last cycle had them, or the champion's run where that is newer.

    Where neither wrote them down, they are written down now.
    """
    champion = work.champion()
    cycles = Cycles(work.registry.store, {}).all()
    later = [cycle for cycle in reversed(cycles) if cycle.transitions[0].at > champion.created]
    places = [*(work.cycle_folder(cycle) / DOCUMENTS for cycle in later), Path(champion.run) / datasets.DOCUMENTS]
    first = work.folder / CYCLES / f"documents-{champion.id}.jsonl"
    for place in (*places, first):
        if (documents := read_documents(place)) is not None:
            return documents
    today = work.documents()
    with suppress(OSError):
        first.parent.mkdir(parents=True, exist_ok=True)
        write_whole(first, jsonl_text(datasets.hash_rows(today)))
    return today


def _ask_canaries(work: Work, count: int) -> dict[str, str]:
    """The champion's answers to a few of its held-out questions; none where one could not be answered."""
    champion: Version = work.champion()
    items = datasets.spread(read_items(Path(champion.run), "test"), count, 0)
    if not items:
        return {}
    program = open_program(work.saved(champion).folder, work.caller)
    outcomes = Executor().map(lambda item: as_text(program(**item.inputs()).get("answer", "")), items)
    if any(outcome.error is not None for outcome in outcomes):
        return {}
    names = [json.dumps(dict(item.inputs().items()), sort_keys=True, default=str) for item in items]
    return dict(zip(names, (outcome.unwrap() for outcome in outcomes), strict=True))
