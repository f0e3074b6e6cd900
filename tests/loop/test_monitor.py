"""The monitor: alarms where something changes, rarely where nothing does, and the same after a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from embedders import WordEmbedder

from synth_dspy.core.run import jsonl_text
from synth_dspy.loop import monitor as module
from synth_dspy.loop.feedback import collect_answers, feedback_rows
from synth_dspy.loop.labels import is_held_back, labelled_rows
from synth_dspy.loop.monitor import Monitor, alarms, describe
from synth_dspy.loop.records import AliasMove, Feedback, Reading, Request, Transition
from synth_dspy.loop.registry import learned_from
from synth_dspy.loop.signals.together import STATISTICAL
from synth_dspy.loop.store import Store

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LEASES = ("rent", "deposit", "notice", "term", "repairs", "law", "parties", "sublet")
CARS = ("engine", "tyres", "brakes", "fuel", "gearbox", "mirror", "lights", "seats")


class Judge:
    """Scores an answer by the figure it ends with."""

    def score_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        return [float(row["prediction"].split()[-1]) for row in rows]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "production.sqlite", "leases")
    store.add(AliasMove("champion", "v1", None, BEGAN, "person:ann", "the first one"))
    return store


def monitor(store: Store, **more: Any) -> Monitor:
    return Monitor(store, WordEmbedder().embed, lambda: ({}, {}), judge=Judge(), settle_s=0.0, **more)


def requests(
    count: int, topics: Sequence[str] = LEASES, *, first: int = 0, score: float = 0.8, **more: Any
) -> list[Any]:
    draws = np.random.default_rng(first)
    given = []
    for number in range(first, first + count):
        topic = topics[int(draws.integers(len(topics)))]
        fields = {
            "inputs": {"question": f"What of the {topic} {topics[int(draws.integers(len(topics)))]}?"},
            "answer": f"it is {draws.uniform(score - 0.2, score + 0.2):.3f}",
            "passages": (f"A passage about the {topic}.",),
            "latency_s": float(draws.lognormal()),
        }
        at = BEGAN + timedelta(seconds=1 + number)
        identifier = UUID(int=number).hex
        given.append(
            Request(
                identifier, at, "v1", "champion", abstained=False, prompt_tokens=int(draws.integers(50, 90)),
                completion_tokens=9, **{**fields, **more},
            )
        )  # fmt: skip
    return given


def by_name(readings: Sequence[Reading]) -> dict[str, Reading]:
    return {each.signal: each for each in readings}


def test_changed_questions_are_noticed_named_and_found_again_after_a_restart(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = monitor(store)
    monkeypatch.setattr(module, "now", lambda: BEGAN + timedelta(seconds=256.5))  # between two requests
    store.add_together(requests(256))
    assert not alarms(watch.look())
    store.add_together(requests(128, CARS, first=256))
    monkeypatch.undo()
    readings = watch.look()
    (alarm, *others) = alarms(readings)
    assert alarm.signal == "questions"
    assert not others
    assert "People's questions changed" in describe(alarm)
    assert any(word in alarm.evidence["questions_that_moved"][0] for word in CARS)
    again = by_name(monitor(store).look())
    for name, reading in by_name(readings).items():
        assert (again[name].statistic, again[name].alarm) == (pytest.approx(reading.statistic, rel=1e-4), reading.alarm)
    kept = store.count(Reading)
    monitor(store).look()
    assert store.count(Reading) == kept  # nothing new was seen


def test_the_signals_share_one_rate(store: Store) -> None:
    store.add_together(requests(64))
    readings = by_name(monitor(store, rate=0.04).look())
    assert {each.threshold for name, each in readings.items() if name != "documents"} == {len(STATISTICAL) / 0.04}
    assert set(readings) == {*STATISTICAL, "documents"} - {"people", "model"}


@pytest.mark.parametrize(
    ("signal", "more"),
    [
        ("judge", {"score": 0.3}),
        ("failures", {"error": "TimeoutError"}),
        ("retrieval", {"passages": ("Nothing to do with it",)}),
    ],
)
def test_worse_answers_are_noticed(store: Store, signal: str, more: dict[str, Any]) -> None:
    store.add_together([*requests(150), *requests(150, first=150, **more)])
    assert signal in [each.signal for each in alarms(monitor(store).look())]


def test_answers_that_only_take_longer_open_no_cycle(store: Store) -> None:
    store.add_together([*requests(150), *requests(150, first=150, latency_s=60.0)])
    readings = monitor(store).look()
    assert by_name(readings)["latency"].alarm
    assert not alarms(readings)


def test_a_cycle_that_ended_begins_the_signals_anew(store: Store) -> None:
    store.add_together([*requests(256), *requests(128, CARS, first=256)])
    watch = monitor(store)
    assert alarms(watch.look())
    store.add(Transition("c1", "decided", "closed", BEGAN + timedelta(hours=1), "loop", "held"))
    assert not alarms(watch.look())


def test_canaries_are_asked_once_a_day_and_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    def ask() -> dict[str, str]:
        asked.append({f"q{n}": "yes" if len(asked) < 3 else "no" for n in range(20)})
        return asked[-1]

    for day in range(6):
        for hour in (1, 5):
            monkeypatch.setattr(module, "now", lambda: BEGAN + timedelta(days=day, hours=hour))  # noqa: B023
            readings = by_name(monitor(store, ask=ask).look())  # a new process each time
        assert len(asked) == day + 1
        assert readings["model"].alarm is (day > 2)
    assert readings["model"].evidence["seen"] == 120


@pytest.mark.parametrize("field", ["question", "feedback", "source"])  # all but the first are fields of a line as well
def test_people_are_learned_from_and_scored_on_different_questions(store: Store, field: str, tmp_path: Path) -> None:
    answers = requests(90, [f"clause{n}" for n in range(400)])
    answers = [replace(each, inputs={field: each.inputs["question"]}) for each in answers]
    store.add_together(answers)
    for number, answer in enumerate(answers):
        kind, value = ("correction", f"corrected {number}") if number % 3 == 0 else ("thumb", number % 3 == 1)
        store.add(Feedback(UUID(int=number).hex, answer.at, answer.id, kind, value))  # type: ignore[arg-type]
    items = labelled_rows(collect_answers(store).values(), "answer")
    lines = feedback_rows(store, keep=lambda inputs: not is_held_back(inputs)).lines
    assert {each[field] for each in items}.isdisjoint(each[field] for each in lines)
    assert lines
    assert all(is_held_back({field: each[field]}) for each in items)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "feedback.jsonl").write_text(jsonl_text(lines), encoding="utf-8")
    assert learned_from(tmp_path) <= {UUID(int=number).hex for number in range(90)}
    assert learned_from(tmp_path)
    corrected = sum(each["answer"].startswith("corrected") for each in items)
    assert 0.5 < corrected / len(items) < 0.8  # two of three answers were wrong, of which half were corrected
