"""A whole rehearsal: every event and every challenger with many seeds, over several processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

from synth_dspy.loop.rehearsal.challengers import CHALLENGERS, Decided, GateSetting, try_challenger
from synth_dspy.loop.rehearsal.events import EVENTS
from synth_dspy.loop.rehearsal.stream import Questions
from synth_dspy.loop.rehearsal.trial import Outcome, Setting, rehearse_event

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of it.

    Attributes:
        setting: of the rehearsed service.
        gate: of the challengers.
        outcomes: of each event and seed.
        decisions: on each challenger and seed.
        seconds: that it took.
        questions: where they came from.
    """

    setting: Setting
    gate: GateSetting
    outcomes: Sequence[Outcome]
    decisions: Sequence[Decided]
    seconds: float
    questions: str = "drawn around topics"


def rehearse(
    seeds: int,
    *,
    first: int = 0,
    setting: Setting | None = None,
    questions: Questions | None = None,
    source: str = "drawn around topics",
    events: Sequence[str] = tuple(EVENTS),
    challengers: Sequence[str] = tuple(CHALLENGERS),
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Rehearsal:
    """Rehearse events and challengers, each with so many seeds.

    Args:
        seeds: of each event and of each challenger.
        first: the first of the seeds.
        setting: of the service; its quality, judge and users meet the challengers too.
        questions: to replay; None: drawn around topics.
        source: where the questions came from, for the report.
        events: which.
        challengers: which.
        processes: at a time; by default one a core.
        progress: is called with how many are done, and of how many.
    """
    setting = setting or Setting()
    gate = GateSetting(setting.quality, setting.judge, setting.users)
    started = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = processes or cores
    work = [(name, seed) for name in (*events, *challengers) for seed in range(first, first + seeds)]
    progress(0, len(work))
    one = partial(_one, setting=setting, gate=gate)
    results: list[Outcome | Decided] = []
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # processes on the same cores stall each other with more threads
    try:
        with ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_keep, initargs=(questions,)
        ) as pool:
            for result in pool.map(one, work, chunksize=max(1, min(8, len(work) // (4 * processes)))):
                results.append(result)
                progress(len(results), len(work))
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    outcomes = [each for each in results if isinstance(each, Outcome)]
    decisions = [each for each in results if isinstance(each, Decided)]
    return Rehearsal(setting, gate, outcomes, decisions, time.monotonic() - started, source)


_kept: list[Questions | None] = [None]


def _keep(questions: Questions | None) -> None:
    """In a new process: the questions, once for all its seeds."""
    _kept[0] = questions


def _one(work: tuple[str, int], setting: Setting, gate: GateSetting) -> Outcome | Decided:
    name, seed = work
    if name in EVENTS:
        return rehearse_event(name, seed, setting, _kept[0])
    return try_challenger(name, seed, gate)
