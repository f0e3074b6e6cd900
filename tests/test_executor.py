"""The executor: in order, bounded, and a bad row is data."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest

from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor


def threaded(fn: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda row: fn(row)


def looped(fn: Callable[[int], Any]) -> Callable[[int], Any]:
    async def run(row: int) -> Any:
        await asyncio.sleep(0)
        return fn(row)

    return run


both = pytest.mark.parametrize("kind", [threaded, looped])


@both
def test_outcomes_are_in_the_order_of_the_rows(kind: Any) -> None:
    outcomes = Executor(4).map(kind(lambda row: row * row), iter(range(20)))
    assert [outcome.unwrap() for outcome in outcomes] == [row * row for row in range(20)]


@both
def test_a_bad_row_is_an_outcome(kind: Any) -> None:
    outcomes = Executor(2).map(kind(lambda row: 10 // row), [5, 0, 2])
    assert [outcome.value for outcome in outcomes] == [2, None, 5]
    assert isinstance(outcomes[1].error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        outcomes[1].unwrap()


@both
def test_no_rows_give_no_outcomes(kind: Any) -> None:
    assert Executor(2).map(kind(lambda row: row), []) == []


@both
def test_what_the_user_can_mend_stops_everything(kind: Any) -> None:
    begun: list[int] = []

    def run(row: int) -> None:
        begun.append(row)
        if row == 3:
            try:
                raise SetupError("no such model")
            except SetupError as error:
                raise RuntimeError("wrapped by a library") from error
        time.sleep(0.01)

    with pytest.raises(SetupError, match="no such model"):
        Executor(2).map(kind(run), range(1000))
    assert len(begun) < 20


@both
def test_an_interrupt_stops_everything(kind: Any) -> None:
    begun: list[int] = []

    def run(row: int) -> None:
        begun.append(row)
        time.sleep(0.01)
        if row == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Executor(2).map(kind(run), range(1000))
    assert len(begun) < 20


@pytest.mark.parametrize("in_loop", [False, True])
def test_no_more_rows_are_pulled_than_are_under_way(in_loop: bool) -> None:
    pulled, most, under_way, finished = 0, 0, 0, 0
    lock = threading.Lock()

    def rows() -> Iterator[int]:
        nonlocal pulled
        for row in range(30):
            pulled += 1
            ahead.append(pulled - finished)
            yield row

    def enter(step: int) -> None:
        nonlocal under_way, most, finished
        with lock:
            under_way += step
            most = max(most, under_way)
            finished += step < 0

    ahead: list[int] = []
    reported: list[int] = []

    def run(row: int) -> None:
        enter(1)
        time.sleep(0.002)
        enter(-1)

    async def arun(row: int) -> None:
        enter(1)
        await asyncio.sleep(0.002)
        enter(-1)

    Executor(3).map(arun if in_loop else run, rows(), progress=reported.append)
    assert most == 3
    assert sum(reported) == 30
    assert max(ahead) == 3


@both
def test_rows_see_the_callers_dspy_settings(kind: Any) -> None:
    with dspy.settings.context(colour="red"):
        outcomes = Executor(3).map(kind(lambda row: dspy.settings.get("colour")), range(4))
    assert [outcome.value for outcome in outcomes] == ["red"] * 4


def test_it_works_inside_a_running_loop() -> None:
    async def run(row: int) -> str:
        await asyncio.sleep(0.001)
        return f"{dspy.settings.get('colour')} {row}"

    async def notebook() -> list[Any]:
        with dspy.settings.context(colour="red"):
            return Executor(2).map(run, range(3))

    assert [outcome.value for outcome in asyncio.run(notebook())] == ["red 0", "red 1", "red 2"]


def test_it_wants_at_least_one_row_at_a_time() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Executor(0)
